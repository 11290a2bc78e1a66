# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages in docs/ that tell an operator what to type: typed, box by box.

See harness/pages.py for the hosts, and libvirt.py for docs/howto-libvirt.md.
"""
import os
import re

from harness import case, check, wait_for
from harness.pages import Page

NEEDS = ['daemon']


@case('e2e/pages/first-migration', needs=NEEDS)
def first_migration(t):
    """Whoever follows the page has a guest at kvm2, and knows it."""
    page = Page(t, 'first-migration.md')
    for section in ('Certificates', 'Two configurations', 'Two QEMUs'):
        page.do(section)
    page.assert_guest_well('kvm1')
    said = page.do('Migrate')['kvm1']
    check('completed' in said, 'multiferry says: ' + said)
    page.assert_guest_well('kvm2')
    said = page.do('Check')
    ids = {name: re.findall(r'\b[0-9a-f]{32}\b', text) for name, text in said.items()}
    for name, text in said.items():
        check('completed' in text, '%s: got %s' % (name, text))
    check('bad=0' in said['kvm2'].splitlines()[-1], 'kvm2: got ' + said['kvm2'])
    check(ids['kvm1'] and set(ids['kvm1']) == set(ids['kvm2']), 'two ids: %s' % ids)


@case('e2e/pages/qemu/{way}', needs=NEEDS, table=[
    dict(way='multifd', section='Multifd over TCP', channels=(2, 4)),
    dict(way='one-connection', section='Without multifd', channels=(0, 0)),
    dict(way='unix', section='Unix sockets', channels=(4, 4)),
    dict(way='tls', section="QEMU's own TLS", channels=(4, 4)),
])
def qemu(t, way, section, channels):
    """The commands of each section, after those that it builds on; all of it through the tunnel."""
    page = Page(t, 'howto-qemu.md')
    page.do('Certificates', page='first-migration.md')
    page.do('The daemons')
    page.do('QEMUs')
    page.assert_guest_well('kvm1')
    page.do(section)
    page.assert_guest_well('kvm2')
    for name, number in zip(('kvm1', 'kvm2'), channels):
        daemon = page.daemons[name]
        wait_for(lambda d=daemon: [m['state'] for m in d.migrations()] == ['completed'],
                 name + ': one migration, completed', 5)
        check('no return path' not in daemon.log_text(), name + ': no return path')
        side = 'channels-in' if name == 'kvm1' else 'channels-out'
        got = len(daemon.migrations()[0][side])
        check(got == number, '%s: got %d %s, expected %d' % (name, got, side, number))


def contents(path):
    if not os.path.exists(path):
        return None
    with open(path, 'rb') as f:
        return f.read()


@case('e2e/pages/certificates/{what}', needs=NEEDS, table=[
    dict(what='renewed', section='Renew'),
    dict(what='new-ca', section='A new CA'),
    dict(what='psk', section='Pre-shared keys'),
])
def certificates(t, what, section):
    """Before: the page's beginning.  After each section a guest can be moved, with what it made."""
    if what == 'psk':
        t.need('psktool')
    page = Page(t, 'certificates.md')
    for earlier in ('Certificates', 'Two configurations', 'Two QEMUs'):
        page.do(earlier, page='first-migration.md')
    tls = page.hosts['kvm1'].path('/etc/multiferry/tls/')
    names = ['keys.psk'] if what == 'psk' else ['client-cert.pem', 'client-key.pem']
    before = [contents(tls + n) for n in names]
    page.do(section)
    check(all(contents(tls + n) != old for n, old in zip(names, before)), 'the same files as before')
    page.assert_guest_well('kvm1')
    page.do('Migrate', page='first-migration.md')
    page.assert_guest_well('kvm2')
