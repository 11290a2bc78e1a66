# SPDX-License-Identifier: GPL-2.0-or-later
"""The end-to-end harness: real QEMUs, real daemons.  See tests/README.md."""
from .case import Failure, Skip, case, check, wait_for
from .checks import (assert_exactly_one_runs, assert_migrated, assert_runs_at,
                     assert_stayed, compare_ram)
from .guest import downtime_s
from .qemu import APPEND, RAM_KIB, UUID, Qemu
from .qmp import Qmp, QmpClosed, QmpError
