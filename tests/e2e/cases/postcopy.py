# SPDX-License-Identifier: GPL-2.0-or-later
"""Postcopy: the guest runs at the destination before all of it is there.

Its pages come slowly and the guest is busy, so that it has to ask for some.
"""
from harness import Skip, case, check, wait_for
from harness.compare import compare
from harness.qmp import QmpError
from harness.ways import way_of

NEEDS = ['daemon', 'certtool']
BUSY = 'mem=48M dirty=24M ws=24M verify=64M stat=0'
# The first pass takes 2 s, and so does what is left for after the switch.
PACE = dict(max_bandwidth=16 << 20, max_postcopy_bandwidth=8 << 20, downtime_limit=10)


def allow(qemu, **capabilities):
    try:
        qemu.capabilities(postcopy_ram=True, **capabilities)
    except QmpError as e:
        if 'serfaultfd' in str(e):
            raise Skip('userfaultfd, for postcopy: %s' % e) from e
        raise


def busy_ends(way, preempt=False):
    """Both QEMUs, with postcopy as the way has multifd."""
    src, dst = way.ends(both=dict(append=BUSY))
    if way.n:
        for qemu in src, dst:
            way.t.need_version((10, 1), qemu, 'multifd and postcopy together')
    for qemu in src, dst:
        allow(qemu, **({'postcopy_preempt': True} if preempt else {}))
    src.parameters(**PACE)
    return src, dst


def switch(src):
    """After the first pass, so that there are pages for both phases.

    In the middle of the first pass 11.1 with multifd loses writes, without us too: the
    destination goes on from an older page.  It begins to count at 2.
    """
    def look():
        m = src.migration()
        check(m['status'] != 'failed', '%s: %s' % (src.name, m))
        return m.get('ram', {}).get('dirty-sync-count', 0) >= 3
    wait_for(look, '%s: the first pass to end' % src.name, 30)
    src.qmp.cmd('migrate-start-postcopy')


def check_asked(way, src):
    m = src.migration()
    requests = m['ram']['postcopy-requests']
    way.t.log('%d page requests, %s bytes after the switch'
              % (requests, m['ram'].get('postcopy-bytes')))
    check(requests > 0, 'the destination asked for no page: nothing was shown')


def move(way, preempt=False):
    src, _ = busy_ends(way, preempt)
    way.begin()
    switch(src)
    result = way.outcome()
    check_asked(way, src)
    return result


@case('e2e/postcopy/plain/{kind}', needs=NEEDS, table=[dict(kind='daemon'), dict(kind='link')])
def plain(t, kind):
    """Without multifd: pages and answers to requests share the main channel."""
    compare(t, way_of(t, kind, n=0, k=0), move)


@case('e2e/postcopy/multifd/{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(kind='daemon', n=2, k=3), dict(kind='link', n=3, k=2)])
def multifd(t, kind, n, k):
    """From 10.1 on multifd carries the first phase, and then stays open and silent."""
    compare(t, way_of(t, kind, n=n, k=k), move)


@case('e2e/postcopy/preempt/{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(kind='daemon', n=0, k=0), dict(kind='daemon', n=2, k=3)])
def preempt(t, kind, n, k):
    """Answers to page requests have a channel of their own, which says nothing before."""
    def body(way):
        return move(way, preempt=True)
    compare(t, way_of(t, kind, n=n, k=k), body)
