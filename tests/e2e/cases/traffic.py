# SPDX-License-Identifier: GPL-2.0-or-later
"""What was seen of the traffic: query-traffic and the views that read it."""
import collections
import html.parser
import json
import lzma
import os
import pty
import re
import select
import shutil
import subprocess
import time

from cases.metrics import scrape
from cases.postcopy import busy_ends, check_asked, switch
from harness import Qemu, assert_migrated, assert_stayed, case, check, wait_for
from harness.case import Skip
from harness.daemon import Client, Daemon
from harness.sites import Sites
from harness.ways import way_of

NEEDS = ['daemon', 'certtool']

# At the source's daemon, in this order whatever the machine does.
MOMENTS = ('first-byte', 'ramblocks', 'ram-end', 'devices', 'last-main-in', 'last-main-out',
           'shut', 'shut-delivered', 'resume', 'resumed')


def migrated(t, **more):
    """Sites after a migration of web1, and what both daemons saw of it."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, **more)
    sites.client.json('migrate', 'web1', '--to', 'dc2')
    assert_migrated(t, src, dst)
    id = sites.dc1.migrations()[0]['id']
    return sites, id, [d.qmp.cmd('query-traffic', id=id) for d in (sites.dc1, sites.dc2)]


def check_sums(name, traffic, migration):
    """The same pages, counted by block, by part, by slice, by epoch and by the exchange."""
    pages = traffic['normal-pages'] + traffic['zero-pages']
    check(pages == migration['normal-pages'] + migration['zero-pages'] + traffic['pages-on-main'],
          '%s: got %d pages, expected those of %s' % (name, pages, migration))
    blocks, epochs = traffic['ramblocks'], traffic['epochs']
    column = traffic['history-columns'].index('pages')
    for what, got in (
            ('blocks', sum(b['normal-pages'] + b['zero-pages'] for b in blocks)),
            ('parts', sum(sum(b['parts']) for b in blocks)),
            ('epochs', sum(e['normal-pages'] + e['zero-pages'] for e in epochs)),
            ('history', sum(row[column] for row in traffic['history']))):
        check(got == pages, '%s: %s: got %d pages, expected %d' % (name, what, got, pages))
    for block in blocks:
        heat = sum(map(sum, block.get('heat', [])))
        check('heat' not in block or heat == sum(block['parts']), '%s: heat of %s' % (name, block))
        distinct = sum(block['parts']) - block['pages-again']
        check(block['again-exact'] and 0 <= distinct * traffic['page-size'] <= block['used-length'],
              '%s: %d distinct pages of %s' % (name, distinct, block))
    check(traffic['epochs-closed'] == migration['epochs'], '%s: epochs' % name)
    check(all(sum(e['by-channel']) == e['packets'] for e in epochs) and
          sum(len(e['by-channel']) > 1 for e in epochs), '%s: packets by channel: %s' % (name, epochs))


def check_moments(name, moments):
    times = [(m, moments[m]) for m in MOMENTS if m in moments]
    check(times == sorted(times, key=lambda m: m[1]), '%s: got moments %s' % (name, times))


@case('e2e/traffic/managed', needs=NEEDS)
def managed(t):
    """Both daemons count the same, and all their sums agree."""
    sites, id, (here, there) = migrated(t)
    for daemon, traffic in zip((sites.dc1, sites.dc2), (here, there)):
        migration, = (m for m in daemon.migrations() if m['id'] == id)
        check_sums(daemon.name, traffic, migration)
        check_moments(daemon.name, traffic['moments'])
        check(traffic['main']['bytes'] == migration['main-bytes'], 'main bytes: %s' % traffic['main'])
        sections = {s['name'] for s in traffic['main']['sections']}
        check({'timer', 'vmdesc', 'globalstate'} <= sections, '%s: got sections %s'
              % (daemon.name, sections))
        left = traffic['main']['device-bytes'] - sum(s['bytes'] for s in traffic['main']['sections'])
        check(0 <= left < 16, '%s: %d bytes of devices in no section' % (daemon.name, left))
    check({m for m in MOMENTS if m != 'first-byte'} <= set(here['moments']) and
          'stopped' in here['moments'], 'dc1: got moments %s' % here['moments'])
    for key in ('normal-pages', 'zero-pages', 'pages-again', 'page-size', 'total-length', 'epochs-closed'):
        check(here[key] == there[key], '%s: got %s and %s' % (key, here[key], there[key]))
    ram = here['ramblocks'][0]
    check(ram['pages-again'] > 0, 'the guest dirties memory, but nothing came again: %s' % ram)
    wire = here['history-columns'].index('wire-out')
    migration, = (m for m in sites.dc1.migrations() if m['id'] == id)
    check(sum(r[wire] for r in here['history']) == migration['wire-bytes-out'],
          'wire bytes: got %d, expected %d' % (sum(r[wire] for r in here['history']),
                                               migration['wire-bytes-out']))


@case('e2e/traffic/inspect-migration', needs=NEEDS)
def inspect_migration(t):
    """People see in text what query-traffic has, at both ends and by the VM's name or id."""
    sites, id, (here, _) = migrated(t)
    code, text, err = sites.client.run('inspect', id)
    check(code == 0, 'inspect: %s' % err)
    ram = here['ramblocks'][0]
    for word in (ram['name'], str(ram['normal-pages']), str(ram['pages-again']), 'globalstate',
                 'shut-delivered'):
        check(word in text, 'inspect: got no %s in:\n%s' % (word, text))
    check(sites.client.json('inspect', id)[0]['ramblocks'] == here['ramblocks'], 'inspect --json')


@case('e2e/traffic/inspect-file', needs=['daemon'])
def inspect_file(t):
    """A stream without multifd, as QEMU writes it into a file: its pages and its devices."""
    src = Qemu.source(t)
    path = os.path.join(t.dir, 'stream')
    src.qmp.cmd('migrate-set-parameters', **{'max-bandwidth': 0})
    src.qmp.cmd('migrate', uri='exec:cat > ' + path)
    src.wait_migration('completed')
    text = subprocess.run([t.options.program('multiferry'), '--json', 'inspect', '--devices', path],
                          capture_output=True, text=True, timeout=60)
    check(text.returncode == 0, 'inspect: %s' % text.stderr)
    got = json.loads(text.stdout)
    ram = got['ramblocks'][0]
    check(ram['used-length'] >= 64 << 20 and
          sum(ram['parts']) - ram['pages-again'] == ram['used-length'] // got['page-size'],
          'got %s, expected each page once and more' % {k: v for k, v in ram.items() if k != 'heat'})
    check(got['pages-on-main'] == got['normal-pages'] + got['zero-pages'] > 0, 'pages on main')
    fields = {d['name']: d.get('fields') for d in got['devices']}
    state = bytes.fromhex(fields['globalstate']['runstate'].split('...')[0])
    check(state.startswith(b'running\0'), 'globalstate: got %s' % fields['globalstate'])
    with open(path, 'rb') as f:         # what check_no_secrets() relies on
        data = f.read()
    check(PAGE_TEXT in data and DEVICE_TEXT in data, 'the stream has not got %s and %s' % (PAGE_TEXT, DEVICE_TEXT))


def top_output(sites, words, until, terminal=False, timeout=30):
    """What top writes until the text has this, on a pipe or on a terminal."""
    reader, writer = pty.openpty() if terminal else os.pipe()
    env = dict(os.environ, TERM='xterm' if terminal else 'dumb')
    p = subprocess.Popen(sites.client.words('top', *words), stdin=subprocess.DEVNULL,
                         stdout=writer, stderr=subprocess.STDOUT, env=env)
    os.close(writer)
    text, deadline = '', time.monotonic() + timeout
    try:
        while not until(text):
            ready, _, _ = select.select([reader], [], [], max(0, deadline - time.monotonic()))
            check(ready, 'top: not what was waited for:\n%s' % text)
            data = os.read(reader, 65536)
            check(data, 'top: ended after:\n%s' % text)
            text += data.decode()
    finally:
        p.kill()
        p.wait()
        os.close(reader)
    return text


@case('e2e/traffic/top', needs=NEEDS)
def top(t):
    """A migration that runs, with rates of its channels at the second look; on any terminal."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    dst.may_be_dead = True
    sites = Sites(t, src, dst, dc1={'peer dc2': {'rate': '10mbit'}})
    code, text, err = sites.client.run('top', '--once')
    check(code == 0 and 'no migration runs' in text, 'top --once: %s%s' % (text, err))
    id = sites.client.json('migrate', 'web1', '--to', 'dc2', '--detach')[0]['id']
    rate = re.compile(r'^lane +0 .* [\d.]+ [kM]?bit/s', re.M)
    text = top_output(sites, [], rate.search)
    check(id[:8] in text and 'web1' in text and '\033' not in text, 'top, dumb:\n%s' % text)
    check(re.search(r'^lane +\d .* ms +\d+ +up *$', text, re.M), 'top: lanes as TCP sees them:\n%s' % text)
    check('dc2' in text and '10.0 Mbit/s' in text, 'top, dumb:\n%s' % text)
    text = top_output(sites, [], lambda s: s.count('\033[H') > 1 and 'web1' in s, terminal=True)
    check('\033[K' in text and '\033[J' in text, 'top, terminal: %r' % text)
    text = top_output(sites, ['--json'], lambda s: s.count('\n') > 1)
    for line in text.splitlines()[:2]:
        check(json.loads(line)[0]['id'] == id, 'top --json: %s' % line)
    code, text, _ = sites.client.run('top', '--once')
    check(code == 0 and 'web1' in text, 'top --once: %s' % text)
    sites.client.run('cancel', id)
    assert_stayed(t, src, dst)


class Page(html.parser.HTMLParser):
    """A page whose elements nest, and that refers to nothing outside."""

    VOID = ('meta', 'path', 'rect')

    def __init__(self, text):
        super().__init__()
        self.open, self.count, self.text = [], collections.Counter(), []
        self.feed(text)
        self.close()
        check(not self.open, 'report: %s not closed' % self.open)

    def handle_starttag(self, tag, attrs):
        self.count[tag] += 1
        check(tag not in ('script', 'link', 'img', 'iframe', 'object', 'embed', 'base', 'use', 'image'),
              'report: got <%s>' % tag)
        for name, value in attrs:
            check(name not in ('src', 'href', 'xlink:href', 'style', 'srcset') and
                  not name.startswith('on'), 'report: got %s=%s' % (name, value))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        check(self.open and self.open[-1] == tag, 'report: got </%s> in %s' % (tag, self.open))
        self.open.pop()

    def handle_data(self, data):
        self.text.append(data)


def write_report(t):
    sites, id, (here, _) = migrated(t)
    code, text, err = sites.client.run('report', id)
    check(code == 0, 'report: %s' % err)
    return text, here, sites, id


@case('e2e/traffic/report', needs=NEEDS)
def report(t):
    """One page that is whole, refers to nothing, and has the numbers."""
    text, here, sites, id = write_report(t)
    page = Page(text)
    check(text.isascii() and not re.search(r'https?:|url\(|@import', text), 'report: refers outside')
    check(page.count['svg'] >= 4 and page.count['table'] >= 5, 'report: got %s' % page.count)
    words = ' '.join(page.text)
    for word in (id, 'web1', 'completed', here['ramblocks'][0]['name'], 'globalstate',
                 str(here['normal-pages']), str(here['pages-again']), 'lane 0', 'Anatomy', '@media print'):
        check(word in words, 'report: got no %s' % word)
    code, _, err = sites.client.run('report', '0123')
    check(code == 4 and '0123' in err, 'report of nothing: %d %s' % (code, err))


@case('e2e/traffic/report-in-browser', needs=NEEDS)
def report_in_browser(t):
    """A browser lays it out with the charts in it, asks for nothing, and prints it."""
    browser = next(filter(None, map(shutil.which, (
        'chromium-headless-shell', 'chromium', 'chromium-browser', 'google-chrome'))), None)
    if not browser:
        raise Skip('a headless Chromium')
    path, pdf = os.path.join(t.dir, 'report.html'), os.path.join(t.dir, 'report.pdf')
    text, *_ = write_report(t)
    # What it would do wrong, it says in its title.
    script = ('<script>onload = () => { const boxes = [...document.querySelectorAll("svg")].map('
              's => s.getBoundingClientRect()); document.title = "seen " + JSON.stringify({'
              'charts: boxes.filter(b => b.width > 300 && b.height > 20).length, all: boxes.length,'
              'asked: performance.getEntriesByType("resource").length,'
              'wide: document.documentElement.scrollWidth > innerWidth }); }</script>')
    with open(path, 'w') as f:
        f.write(text.replace('</body>', script + '</body>'))
    words = [browser, '--headless', '--no-sandbox', '--disable-gpu', '--user-data-dir=%s/profile' % t.dir]
    dom = subprocess.run([*words, '--dump-dom', 'file://' + path], capture_output=True, text=True,
                         timeout=120)
    found = re.search(r'<title>seen (\{.*?\})</title>', dom.stdout)
    check(found, 'the browser did not lay it out: %s %s' % (dom.stdout[:200], dom.stderr[-2000:]))
    seen = json.loads(found[1])
    check(seen['all'] >= 4 and seen['charts'] == seen['all'] and seen['asked'] == 0 and
          not seen['wide'], 'the browser saw %s' % seen)
    subprocess.run([*words, '--print-to-pdf=' + pdf, 'file://' + path], capture_output=True, timeout=120)
    with open(pdf, 'rb') as f:
        data = f.read()
    pages = len(re.findall(rb'/Type\s*/Page\b', data))
    check(data.startswith(b'%PDF') and 1 <= pages <= 12, 'printed: %d pages' % pages)


LUA = 'docs/wireshark/multiferry.lua'


def pages_by_epoch(traffic):
    return {e['epoch']: e['normal-pages'] + e['zero-pages'] for e in traffic['epochs']
            if e['normal-pages'] + e['zero-pages']}


def recorded(t, client, name, words=(), migration='web1'):
    """A recording by this client, under way; waits until it has something."""
    path = os.path.join(t.dir, name)
    p = subprocess.Popen(client.words('record', migration, '-o', path, *words), stdin=subprocess.DEVNULL,
                         stderr=subprocess.PIPE, text=True)
    wait_for(lambda: p.poll() is not None or os.path.exists(path) and os.path.getsize(path) > 100,
             'the recording %s' % name)
    return path, p


def tshark(t, path, *words):
    """Lines that tshark writes with our dissector."""
    p = subprocess.run(['tshark', '-X', 'lua_script:' + os.path.join(t.options.tree, LUA), '-r', path,
                        *words], capture_output=True, text=True, timeout=120,
                       env=dict(os.environ, HOME=t.dir))
    complaints = [line for line in p.stderr.splitlines() if 'Running as user' not in line]
    check(p.returncode == 0 and not complaints, 'tshark: %s' % p.stderr)
    return p.stdout.splitlines()


PAGE_TEXT, DEVICE_TEXT = b'SeaBIOS', b'globalstate'     # in pc.bios; a device section's name


def check_no_secrets(path, traffic):
    """No page and no device, though both have gone by."""
    with open(path, 'rb') as f:
        data = f.read()
    check(b'pc.ram' in data, 'got no RAM block list in %s' % path)
    check(traffic['normal-pages'] > 1000 and traffic['main']['device-bytes'] > 1000, 'nothing went by')
    for text in (PAGE_TEXT, DEVICE_TEXT):
        check(text not in data, 'the recording has %s in it' % text)


@case('e2e/traffic/record-main-only', needs=['daemon'])
def record_main_only(t):
    """Pages on the main channel are pages too."""
    dst = Qemu.destination(t)
    dst.set_multifd(0)
    incoming, listen = 'unix:%s/incoming.sock' % t.dir, 'unix:%s/tunnel.sock' % t.dir
    dst.listen(incoming)
    daemon = Daemon.tunnel(t, 'tunnel', listen, incoming)
    src = Qemu.source(t)
    src.set_multifd(0, max_bandwidth=1 << 20)
    src.migrate(listen)
    wait_for(lambda: daemon.migrations(), 'a migration')
    id = daemon.migrations()[0]['id']
    path, p = recorded(t, Client(t, daemon), 'main.pcapng', migration=id)
    src.parameters(max_bandwidth=1 << 30)
    assert_migrated(t, src, dst)
    check(p.wait(60) == 0, 'record: %s' % p.stderr.read())
    check_no_secrets(path, daemon.qmp.cmd('query-traffic', id=id))


def check_output(t, client, path):
    """What is there stays, until there is something to write; no other file is reached through a link."""
    old, link = 'an older recording', os.path.join(t.dir, 'link')
    with open(path, 'w') as f:
        f.write(old)
    os.chmod(path, 0o644)
    os.symlink(path, link)
    for id, name, says in (('nosuch', path, 'nosuch'), ('web1', link, 'link')):
        code, _, err = client.run('record', id, '-o', name)
        check(code != 0 and says in err and 'recorded' not in err, 'record %s: %d %s' % (id, code, err))
        with open(path) as f:
            check(f.read() == old, 'record %s: an older recording is lost' % id)
    check(os.stat(path).st_mode & 0o777 == 0o644, 'the mode is another one, for nothing')


@case('e2e/traffic/record', needs=NEEDS)
def record(t):
    """Headers of a running migration at both ends; read back, each whole epoch is all there."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, dc1={'peer dc2': {'rate': '60mbit'}})
    id = sites.client.json('migrate', 'web1', '--to', 'dc2', '--detach')[0]['id']
    clients = {d.name: Client(t, d) for d in (sites.dc1, sites.dc2)}
    check_output(t, clients['dc1'], os.path.join(t.dir, 'dc1.pcapng'))
    recordings = {name: recorded(t, client, name + '.pcapng')
                  for name, client in clients.items()}
    code, _, err = clients['dc1'].run('record', 'web1', '-o', os.path.join(t.dir, 'no'), '--payload')
    check(code == 4 and 'record-payload' in err, 'record --payload: %d %s' % (code, err))
    assert_migrated(t, src, dst)
    for name, (path, p) in recordings.items():
        _, err = p.communicate(timeout=60)
        check(p.returncode == 0 and 'lost' not in err, '%s: record: %s' % (name, err))
        check(os.stat(path).st_mode & 0o077 == 0, '%s: others may read %s' % (name, path))
        got = clients[name].json('inspect', path)[0]
        traffic = (sites.dc1 if name == 'dc1' else sites.dc2).qmp.cmd('query-traffic', id=id)
        mine, all = pages_by_epoch(got), pages_by_epoch(traffic)
        check(len(mine) >= 2, '%s: got epochs %s of %s' % (name, mine, all))
        whole = sorted(mine)[1:]        # the first may have begun before the recording
        check(all and [mine[e] for e in whole] == [all[e] for e in sorted(all) if e > min(mine)],
              '%s: recorded %s of %s' % (name, mine, all))
        check(os.path.getsize(path) < traffic['payload-bytes'] / 4, '%s: %d bytes are no headers'
              % (name, os.path.getsize(path)))
        check_no_secrets(path, traffic)


@case('e2e/traffic/record-tshark', needs=NEEDS)
def record_tshark(t):
    """Wireshark opens a recording, with payloads where they are permitted, and shows what is in it."""
    if not shutil.which('tshark'):
        raise Skip('tshark')
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, dc1={
        'peer dc2': {'rate': '40mbit', 'compression': 'none'}, 'daemon': {'record-payload': 'yes'}})
    sites.client.json('migrate', 'web1', '--to', 'dc2', '--detach')
    path, p = recorded(t, sites.client, 'web1.pcapng', ['--payload'])
    sites.dc1.assert_says('memory is being recorded')
    assert_migrated(t, src, dst)
    _, err = p.communicate(timeout=60)
    check(p.returncode == 0, 'record: %s' % err)
    got = sites.client.json('inspect', path)[0]
    # On a busy machine the reader falls behind, and is told so: not all counts add up then.
    whole = 'lost' not in err
    check(os.path.getsize(path) > got['payload-bytes'] > 0 or not whole,
          'no payloads in %d bytes' % os.path.getsize(path))
    check(not tshark(t, path, '-Y', '_ws.malformed || _ws.lua.error || multifd.problem'), 'malformed')
    rows = [line.split('\t') for line in tshark(
        t, path, '-Y', 'multifd.ramblock', '-T', 'fields', '-e', 'multifd.normal_pages',
        '-e', 'multifd.zero_pages', '-e', 'multifd.ramblock')]
    for column, key in ((0, 'normal-pages'), (1, 'zero-pages')):
        check(sum(int(row[column]) for row in rows) == sum(c[key] for c in got['channels']),
              '%s: tshark has other ones' % key)
    check({row[2] for row in rows} <= {b['name'] for b in got['ramblocks']}, 'RAM blocks')
    payloads = tshark(t, path, '-Y', 'multiferry.kind == 5', '-T', 'fields', '-e', 'multiferry.payload')
    digits = sum(len(p) for p in payloads)
    check(digits == 2 * got['payload-bytes'] or digits > 0 and not whole,
          'payloads: %d digits of %d bytes; %s' % (digits, got['payload-bytes'], err))
    syncs = tshark(t, path, '-Y', 'multifd.flags.sync == 1')
    check(len(syncs) == sum(c['packets'] - sum(c['epochs']) for c in got['channels']) > 0,
          'SYNCs: got %d' % len(syncs))
    text = '\n'.join(tshark(t, path))
    check('return path: SHUT' in text and 'channel 0 epoch' in text and 'main channel' in text, text[:2000])


@case('e2e/traffic/native-tshark', needs=[])
def native_tshark(t):
    """QEMU's own multifd connections, as a capture on TCP would have them, in Wireshark."""
    if not shutil.which('tshark') or not shutil.which('text2pcap'):
        raise Skip('tshark and text2pcap')
    directory = os.path.join(t.options.tree, 'tests', 'captures', 'qemu100-zlib-3ch')
    with open(os.path.join(directory, 'expect.json')) as f:
        expect = json.load(f)['chans']['0']
    with lzma.open(os.path.join(directory, 'mfd0.c2s.xz')) as f:
        data = f.read()
    pcap, dump = os.path.join(t.dir, 'native.pcap'), os.path.join(t.dir, 'native.txt')
    with open(dump, 'w') as f:
        # The init packet alone, as QEMU sends it; text2pcap counts sequence numbers on.
        for begin, end in [(0, 64)] + [(at, at + 1400) for at in range(64, len(data), 1400)]:
            f.write('0000 ' + ' '.join('%02x' % b for b in data[begin:end]) + '\n')
    subprocess.run(['text2pcap', '-q', '-T', '40000,4444', dump, pcap], check=True, capture_output=True)
    fields = ('multifd.normal_pages', 'multifd.zero_pages', 'multifd.id')
    normal = zero = packets = 0
    ids = []
    for line in tshark(t, pcap, '-Y', 'multifd', '-T', 'fields', *(x for f in fields for x in ('-e', f))):
        got = [[int(v) for v in part.split(',') if v] for part in line.split('\t')]
        normal, zero, packets = normal + sum(got[0]), zero + sum(got[1]), packets + len(got[0])
        ids += got[2]
    check((packets, normal, zero, ids) == (expect['packets'], expect['normal'], expect['zero'], [0]),
          'got %s packets, %s normal, %s zero pages, ids %s, expected %s' % (packets, normal, zero, ids, expect))


@case('e2e/traffic/preempt-channel', needs=NEEDS)
def preempt_channel(t):
    """Pages that the destination waits for come on a channel of their own, and are all counted."""
    way = way_of(t, 'link', n=0, k=0)
    src, _ = busy_ends(way, preempt=True)
    way.begin()
    switch(src)
    check(way.outcome() == 'completed', 'the migration')
    check_asked(way, src)
    for daemon in way.daemons:
        migration, = daemon.migrations()
        traffic = daemon.qmp.cmd('query-traffic', id=migration['id'])
        n, size = traffic['pages-on-preempt'], migration['preempt-bytes']
        check(n > 0 and n == migration['preempt-pages'] and
              traffic['pages-on-main'] == migration['main-pages'] > 0, str(migration))
        # A record is a word, a name or not, and a page or one byte.
        check(n * 9 <= size <= n * (traffic['page-size'] + 264) + 8, '%d bytes for %d pages' % (size, n))
        pages = traffic['normal-pages'] + traffic['zero-pages']
        check(pages == n + traffic['pages-on-main'] ==
              sum(e['normal-pages'] + e['zero-pages'] for e in traffic['epochs']), '%d pages' % pages)
        # Each page was sent at least once: none is missing in the count.
        for block in traffic['ramblocks']:
            distinct = sum(block['parts']) - block['pages-again']
            check(distinct * traffic['page-size'] == block['used-length'], '%s: %d distinct pages of %s'
                  % (daemon.name, distinct, {k: v for k, v in block.items() if k != 'heat'}))
        family = scrape(daemon)['multiferry_preempt_pages']
        check(sum(family.samples.values()) == n, 'the metric: %s' % family.samples)
        _, text, _ = Client(t, daemon).run('inspect', migration['id'])
        check('%d on the preempt channel' % n in text, text)
