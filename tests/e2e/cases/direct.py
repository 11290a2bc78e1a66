# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU to QEMU with nobody in between.

These prove the harness, the guest and the QEMUs: where one of them fails, no
verdict on the daemon means anything.
"""
from harness import (Qemu, assert_migrated, assert_stayed, case)


@case('e2e/direct/{name}', table=[
    dict(name='plain', channels=0, ram=False),
    dict(name='multifd-2', channels=2, ram=False),
    dict(name='multifd-2-ram-compared', channels=2, ram=True),
])
def direct(t, name, channels, ram):
    dst = Qemu.destination(t, paused=ram)
    dst.set_multifd(channels)
    src = Qemu.source(t)
    src.set_multifd(channels)
    src.migrate(dst.listen())
    assert_migrated(t, src, dst, ram=ram)


@case('e2e/direct/unix-socket')
def unix_socket(t):
    dst = Qemu.destination(t)
    dst.set_multifd(3)
    src = Qemu.source(t)
    src.set_multifd(3)
    src.migrate(dst.listen('unix:%s/incoming.sock' % dst.dir))
    assert_migrated(t, src, dst)


@case('e2e/direct/cancel')
def cancel(t):
    """The source cancels in the middle; its guest must run on, whole."""
    dst = Qemu.destination(t)
    dst.set_multifd(2)
    src = Qemu.source(t)
    src.set_multifd(2, max_bandwidth=4 << 20)
    src.migrate(dst.listen())
    src.wait_migration('active')
    src.qmp.cmd('migrate_cancel')
    dst.may_be_dead = True
    assert_stayed(t, src, dst, statuses=('cancelled',))
