# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests that are not x86, among them targets whose pages are not of 4 KiB."""
from harness import case, check
from harness.daemon import Daemon, free_port
from harness.sites import Sites
from harness.target import TARGETS, TargetQemu

NEEDS = ['daemon', 'certtool']


def judge(t, src, dst, legs):
    src.wait_migration('completed')
    dst.wait_migration('completed')
    dst.judge_arrival(src)
    t.result(legs, '-', 'completed')


@case('e2e/targets/managed/{arch}-n{n}-w{w}-k{k}', needs=NEEDS, table=[
    dict(arch='aarch64', n=3, w=2, k=5), dict(arch='s390x', n=2, w=3, k=1),
    dict(arch='arm', n=1, w=2, k=2)])
def managed(t, arch, n, w, k):
    """The daemon asks QEMU what target it is, and knows its pages."""
    src, dst = TargetQemu.ends(t, TARGETS[arch], 0, 0)
    sites = Sites(t, src, dst)
    code, _, err = sites.client.run('migrate', 'web1', '--to', 'dc2', '--channels', n,
                                    '--destination-channels', k, '--lanes', w)
    check(code == 0, 'the client ended with %d: %s' % (code, err))
    judge(t, src, dst, '%d→%d→%d' % (n, w, k))


def tunnel(t, dst, k, **keys):
    listen = 'tcp:127.0.0.1:%d' % free_port()
    return listen, Daemon(t, 'tunnel', {'tunnel web': {
        'listen': listen, 'connect': dst.listen(), 'channels': k,
        **{n.replace('_', '-'): v for n, v in keys.items()}}})


@case('e2e/targets/tunnel/{arch}-{compression}-n{n}-k{k}', needs=NEEDS, table=[
    dict(arch='aarch64', n=2, k=3, compression='zstd'),
    dict(arch='s390x', n=3, k=1, compression='zlib'),
    dict(arch='arm', n=2, k=1, compression='none')])
def passive(t, arch, n, k, compression):
    """Nobody to ask: what the stream does not say the operator does."""
    target = TARGETS[arch]
    src, dst = TargetQemu.ends(t, target, n, k)
    dst.parameters(multifd_compression=compression)
    keys = {'page_size': '1K'} if arch == 'arm' else {}
    listen, _ = tunnel(t, dst, k, compression=compression, **keys)
    src.migrate(listen)
    judge(t, src, dst, '%d→%d' % (n, k))


@case('e2e/targets/link/arm-n2-w3-k3', needs=NEEDS)
def over_link(t):
    """Only the source's side is told the page size: the peer hears of it."""
    src, dst = TargetQemu.ends(t, TARGETS['arm'], 2, 3)
    listen = 'unix:' + Daemon.path_of(t, 'dc1', 'in.sock')
    Sites(t, lanes=3,
          dc1={'tunnel web': {'listen': listen, 'peer': 'dc2', 'page-size': '1K'}},
          dc2={'tunnel web': {'peer': 'dc1', 'channels': 3,
                              'connect': dst.listen('unix:%s/incoming.sock' % dst.dir)}})
    src.migrate(listen)
    judge(t, src, dst, '2→3→3')


@case('e2e/targets/wrong-page-size', needs=NEEDS)
def wrong_page_size(t):
    """Found before a page has moved, and the log says what to set."""
    src, dst = TargetQemu.ends(t, TARGETS['arm'], 2, 2)
    listen, daemon = tunnel(t, dst, 2)
    src.migrate(listen)
    m = src.wait_migration('failed')
    t.log('source: %s' % m.get('error-desc'))
    daemon.assert_says(r'error: .*page-size')
    dst.expect_failed_incoming()
