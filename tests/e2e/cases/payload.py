# SPDX-License-Identifier: GPL-2.0-or-later
"""What no QEMU here can send: constructed streams, through one daemon or over the link."""
from harness import case, check
from harness.constructed import Dest, Source, Stream
from harness.daemon import Daemon
from harness.sites import Sites

NEEDS = ['daemon', 'certtool']


def carry(t, kind, stream, k, near=(), **far):
    """A source that plays the stream, daemons, and a destination with k channels.

    near are keys of [tunnel] where the source connects, far where the destination is.
    """
    dest = Dest(t, stream, k)
    listen = 'unix:' + Daemon.path_of(t, 'tunnel' if kind == 'daemon' else 'dc1', 'in.sock')
    near = dict(near, listen=listen)
    far = {'connect': dest.address, 'channels': k,
           **{n.replace('_', '-'): v for n, v in far.items()}}
    if kind == 'daemon':
        daemons = [Daemon(t, 'tunnel', {'tunnel web': {**near, **far}})]
    else:
        sites = Sites(t, lanes=3, dc1={'tunnel web': {**near, 'peer': 'dc2'}},
                      dc2={'tunnel web': {**far, 'peer': 'dc1'}})
        daemons = [sites.dc1, sites.dc2]
    return Source(t, listen, stream), dest, daemons


@case('e2e/payload/opaque/{method}-{kind}-k{k}', needs=NEEDS, table=[
    dict(method='qpl', kind='link', k=3), dict(method='qpl', kind='daemon', k=1),
    dict(method='uadk', kind='link', k=1), dict(method='qatzip', kind='link', k=5)])
def opaque(t, method, kind, k):
    """An accelerator's packets are whole in themselves: they go on as they came."""
    source, dest, _ = carry(t, kind, Stream(method=method), k)
    source.wait_shut()
    dest.verify()
    check(dest.methods() == {method}, 'got packets of %s' % dest.methods())


@case('e2e/payload/opaque-refused/{kind}', needs=NEEDS, table=[
    dict(kind='daemon'), dict(kind='link')])
def opaque_refused(t, kind):
    """Given to a destination with another method they would wedge it for good."""
    source, dest, daemons = carry(t, kind, Stream(method='qpl'), 2, compression='zlib')
    source.wait_refused()
    daemons[-1].assert_says('error: .*qpl.*cannot be unpacked.*zlib')
    check(not dest.got(), 'got %s' % dest.got()[:1])


@case('e2e/payload/device-state/{kind}-k{k}', needs=NEEDS, table=[
    dict(kind='daemon', k=3), dict(kind='link', k=1), dict(kind='link', k=5)])
def device_state(t, kind, k):
    """VFIO's packets, behind the last SYNC and beside the last pages."""
    source, dest, _ = carry(t, kind, Stream(devices=3, channels=3), k, compression='none')
    dest.verify()
    source.wait_shut()


@case('e2e/payload/device-state-refused/{kind}', needs=NEEDS, table=[
    dict(kind='daemon'), dict(kind='link')])
def device_state_refused(t, kind):
    """A destination that packs takes no device state on its channels."""
    source, dest, daemons = carry(t, kind, Stream(devices=1), 2, compression='zlib')
    source.wait_refused()
    daemons[-1].assert_says("error: .*device-state packet of '0000:00:02.0/vfio'.*zlib")


@case('e2e/payload/page-size/{size}k-{says}-{kind}-k{k}', needs=NEEDS, table=[
    dict(size=8, says='nothing', kind='link', k=3), dict(size=8, says='alloc', kind='daemon', k=1),
    dict(size=16, says='configuration', kind='link', k=1),
    dict(size=64, says='configuration', kind='daemon', k=3),
    dict(size=64, says='nothing', kind='link', k=3)])
def page_size(t, size, says, kind, k):
    """From the stream, or from [tunnel] page-size where the source connects."""
    stream = Stream(page=size * 1024, says=says, per_section=says == 'alloc')
    near = {} if says == 'configuration' else {'page-size': '%dK' % size}
    source, dest, _ = carry(t, kind, stream, k, near)
    source.wait_shut()
    dest.verify()


@case('e2e/payload/page-size-wrong/{size}k-{says}', needs=NEEDS, table=[
    dict(size=8, says='nothing'), dict(size=64, says='alloc'), dict(size=1, says='alloc'),
    dict(size=1, says='nothing')])
def page_size_wrong(t, size, says):
    """Whoever did not know that there are others than 4 KiB learns what to set."""
    source, dest, daemons = carry(t, 'daemon', Stream(page=size * 1024, says=says), 2)
    source.wait_refused()
    what = ('longer' if (size, says) == (1, 'nothing') else 'pages of %d bytes' % (size * 1024))
    daemons[0].assert_says(r'error: .*%s.*\[tunnel\] page-size' % what)
    check(not dest.got(), 'got %s' % dest.got()[:1])


@case('e2e/payload/zero-pages/{method}-to-{to}-{size}k-{kind}', needs=NEEDS, table=[
    dict(method='none', to='none', size=4, kind='daemon'),
    dict(method='zlib', to='same', size=4, kind='link'),
    dict(method='none', to='zlib', size=8, kind='link'),
    dict(method='zlib', to='none', size=64, kind='daemon')])
def zero_pages(t, method, to, size, kind):
    """For a destination before 9.0: none is named, each is written."""
    near = {} if size == 4 else {'page-size': '%dK' % size}
    source, dest, _ = carry(t, kind, Stream(page=size * 1024, method=method), 3, near,
                            compression=to, zero_pages='write')
    source.wait_shut()
    dest.verify(zero_pages_written=True)
    check(dest.methods() == {method if to == 'same' else to}, 'got packets of %s' % dest.methods())
