# SPDX-License-Identifier: GPL-2.0-or-later
"""Two QEMUs that differ where a stream may: what fails directly completes through us.

And what one QEMU alone can say in several ways: zero pages, SYNCs, writing.
"""
import time

from harness import assert_migrated, case, check
from harness.case import Failure, Skip
from harness.certs import Authority, qemu_x509
from harness.compare import compare, outcome
from harness.qemu import APPEND, machine_types
from harness.ways import FINAL, Way, way_of

NEEDS = ['daemon', 'certtool']
STUCK_S = 3     # a source that has sent nothing for so long is waiting for good


def mended(t, way, body, why):
    """Directly it must not complete, through us it must."""
    direct = []

    def both(run):
        result = body(run)
        if run.kind == 'direct':
            direct.append(result)
        return result
    compare(t, way, both, mends=why)
    check(direct != ['completed'], 'directly it completes, too: there is nothing to mend')


def attempt(way, ram=False):
    """Migrate, and judge; what fails directly may leave QEMUs that hang for good."""
    way.begin()
    if way.kind != 'direct':
        return way.outcome(ram=ram)
    m = wait_end_or_stuck(way.src)
    if not m:
        way.src.kill()
    result = outcome(m) if m else 'stuck'
    if result == 'completed':
        try:
            assert_migrated(way.t, way.src, way.dst, ram=ram)
        except Failure as e:
            way.t.log('directly: %s' % e)
            result = 'memory lost'
    way.dst.kill()
    return result


def wait_end_or_stuck(src):
    """The migration at its end; None if it moves no more, or QMP has no answer."""
    moved, since = None, time.monotonic()
    while time.monotonic() - since < STUCK_S:
        try:
            m = src.qmp.cmd('query-migrate', timeout=STUCK_S)
        except Failure:
            return None
        if m.get('status') in FINAL:
            return m
        if m.get('ram', {}).get('transferred') != moved:
            moved, since = m.get('ram', {}).get('transferred'), time.monotonic()
        time.sleep(0.02)
    return None


# ---- what is mended -----------------------------------------------------------------

@case('e2e/mends/channels/{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(kind='daemon', n=2, k=4), dict(kind='link', n=5, k=2),
    dict(kind='managed', n=3, k=1, full=True)])
def channels(t, kind, n, k):
    def body(way):
        way.ends()
        return attempt(way)
    way = way_of(t, kind, n=n, k=k)
    way.directly = lambda: Way(t, n, k, *way.transports)
    mended(t, way, body, 'multifd-channels %d and %d' % (n, k))


METHODS = ('none', 'zlib', 'zstd')
IN_CHECK = {('none', 'zstd', 'link'), ('zlib', 'none', 'daemon'), ('zstd', 'zlib', 'link')}


@case('e2e/mends/compression/{src}-to-{dst}-{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(src=src, dst=dst, kind=kind, n=2, k=3, full=(src, dst, kind) not in IN_CHECK)
    for src in METHODS for dst in METHODS for kind in ('daemon', 'link') if src != dst])
def compression(t, src, dst, kind, n, k):
    """Unpacked from one leg, packed for the other; every byte of the RAM is compared."""
    def body(way):
        way.ends(dst=dict(paused=True))
        way.src.parameters(multifd_compression=src)
        way.dst.parameters(multifd_compression=dst)
        return attempt(way, ram=True)
    way = way_of(t, kind, n=n, k=k)
    way.connect_keys = {'compression': dst}
    mended(t, way, body, 'multifd-compression %s and %s' % (src, dst))


@case('e2e/mends/compression-level/{method}-{level}', needs=NEEDS, full=True, table=[
    dict(method='zstd', level=9), dict(method='zlib', level=3)])
def compression_level(t, method, level):
    def body(way):
        way.ends(dst=dict(paused=True))
        way.dst.parameters(multifd_compression=method)
        return attempt(way, ram=True)
    way = way_of(t, 'daemon', n=2, k=2)
    way.connect_keys = {'compression': method, 'compression-level': level}
    way.groups = {'daemon': {'migration-memory': '128M'}}
    mended(t, way, body, 'multifd-compression none and %s' % method)


@case('e2e/mends/zero-pages/{kind}-{compression}', needs=NEEDS, full=True, table=[
    dict(kind='daemon', compression='none'), dict(kind='link', compression='zlib'),
    dict(kind='managed', compression='none')])
def zero_pages(t, kind, compression):
    """Pages that had something in them become zero, and a destination before 9.0 is not told."""
    def body(way):
        guest = dict(append=APPEND + ' zero=60 text=10 dup=10 random=20 zap=60')
        way.ends(both=guest)
        t.need_version((9, 0), way.src, 'zero pages in multifd packets')
        if way.dst.version >= (9, 0):
            raise Skip('a destination before 9.0')
        way.dst.parameters(multifd_compression=compression)
        # Machine types before 9.0 have legacy, which any destination understands.
        way.src.parameters(max_bandwidth=24 << 20, zero_page_detection='multifd')
        return attempt(way)
    way = way_of(t, kind, n=2, k=2)
    if kind != 'managed':
        way.connect_keys = {'compression': compression, 'zero-pages': 'write'}
    mended(t, way, body, 'zero-page-detection multifd, to a QEMU before 9.0')


@case('e2e/mends/tls-at-the-{end}/{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(end='source', kind='daemon', n=2, k=3), dict(end='destination', kind='link', n=3, k=2)])
def tls_on_one_side(t, end, kind, n, k):
    def body(way):
        ca = Authority(t, way.name('ca'))
        ours = ca.directory('daemon')
        if end == 'source':
            way.ends(src=dict(extra=qemu_x509(ca.directory('src'), 'client')))
            way.src.parameters(tls_creds='tls0', tls_hostname='localhost')
            way.listen_keys = {'listen-tls': 'yes', 'tls-directory': ours}
        else:
            way.ends(dst=dict(extra=qemu_x509(ca.directory('dst'), 'server')))
            way.dst.parameters(tls_creds='tls0')
            way.connect_keys = {'tls': 'yes', 'tls-directory': ours, 'tls-hostname': 'localhost'}
        return attempt(way)
    mended(t, way_of(t, kind, n=n, k=k), body, 'TLS at the %s alone' % end)


# ---- one QEMU's ways to say a thing ------------------------------------------------------

@case('e2e/dialects/zero-page-detection/{how}-{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(how='legacy', kind='daemon', n=2, k=3), dict(how='multifd', kind='link', n=3, k=2),
    dict(how='none', kind='link', n=2, k=1, full=True)])
def zero_page_detection(t, how, kind, n, k):
    """In the main channel, in packets, not at all."""
    def body(way):
        way.ends()
        t.need_version((9, 0), way.src, 'zero-page-detection')
        if how == 'multifd' and way.dst.version < (9, 0):
            raise Skip('a destination from 9.0 on')
        way.src.parameters(zero_page_detection=how)
        way.begin()
        return way.outcome()
    compare(t, way_of(t, kind, n=n, k=k), body)


@case('e2e/dialects/flush/{machine}-{kind}-n{n}-k{k}', needs=NEEDS, table=[
    dict(machine='pc-i440fx-7.2', kind='link', n=3, k=2, full=True),
    dict(machine='pc-i440fx-10.0', kind='daemon', n=2, k=3),
    dict(machine='pc-i440fx-10.0', kind='link', n=3, k=1)])
def flush(t, machine, kind, n, k):
    """A SYNC at the end of each section (machine types before 8.1), or of each round."""
    for version in (t.options.qemu_src, t.options.qemu_dst):
        if machine not in machine_types(version):
            raise Skip('a QEMU with machine type ' + machine)

    def body(way):
        way.ends(both=dict(machine=machine))
        way.begin()
        return way.outcome()
    compare(t, way_of(t, kind, n=n, k=k), body)


@case('e2e/dialects/zero-copy-send/{kind}-n{n}-k{k}', needs=[*NEEDS, 'root'], table=[
    dict(kind='daemon', n=2, k=3), dict(kind='link', n=3, k=2)])
def zero_copy_send(t, kind, n, k):
    """The source's kernel sends from the guest's own pages; what we read is the same."""
    def body(way):
        way.ends()
        way.src.capabilities(zero_copy_send=True)
        way.begin()
        return way.outcome()
    compare(t, way_of(t, kind, n=n, k=k, listen='tcp', connect='tcp'), body)
