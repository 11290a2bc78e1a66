# SPDX-License-Identifier: GPL-2.0-or-later
"""Over the emulator of tests/net: a long-distance link between the two daemons."""
from harness import Qemu, assert_migrated, case, check
from harness.sites import Sites
from harness.wan import PROFILES, Wan

# Small, because it is the link that is to be slow, and not the test.
APPEND = 'mem=12M dirty=512K ws=2M verify=32M stat=0'


@case('e2e/wan/{profile}', needs=['root', 'daemon', 'certtool'], timeout=180, table=[
    dict(profile='thin'), dict(profile='lossy'),
])
def migrates(t, profile):
    """What works over loopback works over distance, and the link has the profile it was given."""
    wan = Wan(t, PROFILES[profile])
    src = Qemu.source(t, append=APPEND, prefix=wan.inside('dc1'))
    dst = Qemu.destination(t, append=APPEND, prefix=wan.inside('dc2'))
    sites = Sites(t, src, dst, lanes=None, wan=wan)
    wan.zero()
    client = sites.client.start('migrate', 'web1', '--to', 'dc2')
    wan.assert_within_rate(client.alive)
    client.expect_exit(0)
    assert_migrated(t, src, dst)
    counters = wan.counters()
    rtt_ms = sites.dc1.migrations()[0]['rtt-ms']
    t.log('link: %s' % counters)
    # All of the guest that is not zero went this way: at least its random quarter, packed or not.
    check(counters['ab']['out_bytes'] > 2 << 20, 'the migration did not cross the link')
    check(rtt_ms >= wan.profile.rtt_ms, 'round trip: got %g ms, expected at least %d'
          % (rtt_ms, wan.profile.rtt_ms))
    lost = sum(c['loss_pkts'] for c in counters.values())
    check(bool(lost) == bool(wan.profile.loss), 'link: %d packets lost, set to lose %g %%'
          % (lost, wan.profile.loss))
