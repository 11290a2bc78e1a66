# SPDX-License-Identifier: GPL-2.0-or-later
"""The guests that are measured: command lines of tests/guest.

`hot` is what the link lets a guest write in a second, in KiB of pages touched, `ws` the working
set in MiB; tests/bench/wan chooses them for each profile.
"""

GUESTS = {
    'zero': 'zero=90 text=10 dup=0 random=0 dirty=256K ws=4M',
    'mixed': 'dirty=256K ws=8M',
    # As the Linux in docs/reduction.md: 57 % of what is not zero is there elsewhere, too.
    'duplicates': 'zero=28 text=20 dup=42 struct=6 random=4 dups=512 dirty=256K ws=4M',
    # A third of what QEMU alone can send, and nearly as much as that.
    'write-hot': 'dirty=%(hot)dK ws=%(ws)dM wbytes=64',
    'busy': 'zero=30 text=25 dup=20 struct=15 random=10 dirty=%(busy)dK ws=%(ws)dM wbytes=64',
    'random': 'pattern=random dirty=256K ws=4M',
}


def command_line(guest, mem_mib, hot_kib, busy_kib):
    words = GUESTS[guest] % {'hot': hot_kib, 'busy': busy_kib, 'ws': mem_mib // 3}
    return 'mem=%dM verify=16M stat=0 %s' % (mem_mib, words)
