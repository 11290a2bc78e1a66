# SPDX-License-Identifier: GPL-2.0-or-later
"""What monitoring is told: in the right form, and true."""
import json
import os
import re
import stat
from datetime import timedelta

from harness import Qemu, assert_migrated, case, check, wait_for
from harness.case import Failure
from harness.certs import Authority
from harness.daemon import Client, Daemon, free_port
from harness.openmetrics import SUFFIXES, read
from harness.sites import Sites

NEEDS = ['daemon', 'certtool']


def scrape(daemon):
    answer = daemon.qmp.cmd('query-metrics')
    check(answer['content-type'].startswith('application/openmetrics-text; version=1.0.0'),
          answer['content-type'])
    return read(answer['text'])


def value(families, metric, suffix='', **labels):
    """Of the one sample that has these labels, maybe among others; None without one."""
    found = [v for (s, has), v in families[metric].samples.items()
             if s == suffix and set(labels.items()) <= has]
    check(len(found) <= 1, '%s%s: got %d samples' % (metric, labels, len(found)))
    return found[0] if found else None


def assert_only_grows(before, now):
    for name, family in now.items():
        if family.kind == 'counter' and name in before:
            for key, old in before[name].samples.items():
                check(family.samples.get(key, -1) >= old, '%s%s fell from %g to %s'
                      % (name, dict(key[1]), old, family.samples.get(key)))


@case('e2e/metrics/of-a-migration', needs=NEEDS)
def migration(t):
    """Before, while it runs, after; nothing falls, nothing is counted twice."""
    src, dst = Qemu.source(t), Qemu.destination(t)
    sites = Sites(t, src, dst, dc1={'peer dc2': {'rate': '100mbit'}})
    last = {name: scrape(d) for name, d in sites.daemons.items()}
    check(value(last['dc1'], 'multiferry_peer_up', peer='dc2') is None, 'up before the first try')
    check(value(last['dc1'], 'multiferry_rate_limit_bytes_per_second', peer='dc2') == 12500000,
          'the rate limit of dc2')
    migration = sites.client.start('migrate', 'web1', '--to', 'dc2')
    labels = dict(kind='managed', name='web1', peer='dc2', role='source')
    seen = False
    while migration.alive():
        for name, daemon in sites.daemons.items():
            now = scrape(daemon)
            assert_only_grows(last[name], now)
            last[name] = now
        seen = seen or (value(last['dc1'], 'multiferry_migration_running', **labels) == 1 and
                        value(last['dc1'], 'multiferry_migration_remaining_bytes', **labels))
    migration.expect_exit(0)
    check(seen, 'it never showed as running, with what remains')
    assert_migrated(t, src, dst)
    for name, role, peer in (('dc1', 'source', 'dc2'), ('dc2', 'destination', 'dc1')):
        daemon = sites.daemons[name]
        wait_for(lambda d=daemon: not d.migrations_active(), name + ' to end it', 5)
        now = scrape(daemon)
        assert_only_grows(last[name], now)
        of = dict(role=role, peer=peer)
        shown = daemon.migrations()[0]
        for metric, member in (('received_bytes', 'bytes-in'), ('packets', 'packets'),
                               ('wire_sent_bytes', 'wire-bytes-out')):
            got = value(now, 'multiferry_' + metric, '_total', **of)
            check(got == shown[member] > 0, '%s: %s is %s, query-migrations says %d'
                  % (name, metric, got, shown[member]))
        results = {r: value(now, 'multiferry_migrations_finished', '_total', result=r, **of)
                   for r in ('completed', 'failed', 'cancelled')}
        check(results == {'completed': 1, 'failed': 0, 'cancelled': 0}, '%s: %s' % (name, results))
        check(value(now, 'multiferry_migration_duration_seconds', '_count', **of) == 1, 'duration')
        check(not now['multiferry_migration_running'].samples, 'it still runs')
        check(value(now, 'multiferry_peer_up', peer=peer) == 1, 'peer is not up')
    downtime = value(scrape(sites.dc1), 'multiferry_migration_downtime_seconds', '_sum')
    check(0 < downtime < 60, 'downtime: %s' % downtime)


@case('e2e/metrics/of-failures', needs=NEEDS)
def failures(t):
    """By result, and by who said so; the peer that could not be reached is down."""
    src = Qemu.source(t)
    sites = Sites(t, src)
    sites.dc2.kill()
    for n in (1, 2):
        code, _, _ = sites.client.run('migrate', 'web1', '--to', 'dc2')
        check(code == 1, 'exit status %d' % code)
        now = scrape(sites.dc1)
        check(value(now, 'multiferry_migrations_finished', '_total', result='failed') == n, 'failed')
        reasons = now['multiferry_migrations_failed'].samples
        check(sum(reasons.values()) == n and len(reasons) == 1, 'reasons: %s' % reasons)
    check(value(now, 'multiferry_peer_up', peer='dc2') == 0, 'dc2 is up')


@case('e2e/metrics/of-certificates', needs=NEEDS)
def certificates(t):
    """The date is the certificate's; whoever looks at the log or the metric is warned in time."""
    ca = Authority(t)
    directory = ca.directory('dc1', valid=timedelta(days=2))
    daemon = Daemon(t, 'dc1', {'tls': {'directory': directory},
                               'listen': {'link': '127.0.0.1:%d' % free_port()},
                               'peer dc2': {'certificate-name': 'dc2'}})
    daemon.assert_says(r'warning: \S*/server-cert.pem: the certificate expires at \S*, in '
                       r'(2 days|4\d hours)')
    daemon.assert_says(r'warning: \S*/client-cert.pem: the certificate expires')
    # Half of its twenty days are left to the CA.
    check('ca-cert.pem: the certificate expires' not in daemon.log_text(), 'warned of the CA')
    files = {c['file']: c['expires'] for c in daemon.qmp.cmd('query-status')['certificates']}
    check(set(files) == {os.path.join(directory, n + '-cert.pem')
                         for n in ('ca', 'server', 'client')}, str(files))
    family = scrape(daemon)['multiferry_certificate_expiry_timestamp_seconds']
    left = family.samples['', frozenset({('file', directory + '/server-cert.pem')})] - \
        os.stat(directory + '/server-cert.pem').st_mtime
    check(abs(left - 2 * 86400) < 3600, 'expires %g s after it was made' % left)
    ca.renew(directory, 'dc1', valid=timedelta(days=300))
    warnings = daemon.log_text().count('the certificate expires')
    os.kill(daemon.pid, 1)
    daemon.assert_says('reloaded the TLS credentials')
    daemon.qmp.cmd('query-status')
    check(daemon.log_text().count('the certificate expires') == warnings, 'warned of new ones')


@case('e2e/metrics/textfile', needs=['daemon'])
def textfile(t):
    """Readable, in the format of the collector, replaced in one go, and left alone on failure."""
    daemon = Daemon(t, 'd', {})
    client = Client(t, daemon)
    path = os.path.join(t.subdir('collector'), 'multiferry.prom')
    inodes = set()
    for _ in range(2):
        code, out, err = client.run('metrics', '--textfile', path)
        check((code, out, err) == (0, '', ''), '%d %s %s' % (code, out, err))
        with open(path) as f:
            read(f.read(), old=True)
            inodes.add(os.fstat(f.fileno()).st_ino)
        check(stat.S_IMODE(os.stat(path).st_mode) == 0o644, 'mode %o' % os.stat(path).st_mode)
        check(os.listdir(os.path.dirname(path)) == ['multiferry.prom'], 'left something')
    check(len(inodes) == 2, 'the same file was written to')
    before = os.stat(path).st_ino
    daemon.kill()
    code, _, _ = client.run('metrics', '--textfile', path)
    check(code == 3 and os.stat(path).st_ino == before, 'without a daemon: %d' % code)


@case('e2e/metrics/documented', needs=['daemon'])
def documented(t):
    """docs/metrics.md has them all, with their types, and no others."""
    real = scrape(Daemon(t, 'd', {}))
    with open(os.path.join(t.options.tree, 'docs/metrics.md')) as f:
        rows = dict(re.findall(r'^\| `(multiferry_\w+)` \| (\w+) \|', f.read(), re.M))
    expected = {f.name + ('_total' if f.kind == 'counter' else ''): f.kind for f in real.values()}
    check(rows == expected, 'differ: %s' % sorted(set(rows.items()) ^ set(expected.items())))


@case('e2e/metrics/dashboard', needs=['daemon'])
def dashboard(t):
    """Each panel asks for metrics and labels that there are, with histograms and counters as such."""
    real = scrape(Daemon(t, 'd', {}))
    with open(os.path.join(t.options.tree, 'docs/grafana-dashboard.json')) as f:
        panels = json.load(f)['panels']
    names = {name + suffix for name, family in real.items() for suffix in SUFFIXES[family.kind]}
    asked = set()
    for panel in panels:
        for expression in (target['expr'] for target in panel['targets']):
            found = set(re.findall(r'multiferry_\w+', expression))
            check(found and found <= names, '%s: asks for %s' % (panel['title'], found - names))
            asked |= found
    with open(os.path.join(t.options.tree, 'docs/metrics.md')) as f:
        documented = dict(re.findall(r'^\| `(multiferry_\w+)` \| \w+ \| (.*?) \|', f.read(), re.M))
    for panel in panels:
        for target in panel['targets']:
            for name, matchers in re.findall(r'(multiferry_\w+)\{(.*?)\}', target['expr']):
                name = re.sub('_bucket$', '', name)
                used = set(re.findall(r'(\w+)[=!]', matchers)) - {'instance'}
                check(used <= set(documented[name].split(', ')), '%s: labels %s' % (name, used))
    check(len(asked) > 10, str(asked))


BROKEN = ['a 1\n# EOF\n', '# TYPE a gauge\n# HELP a x\na 1\n', '# TYPE a gauge\na 1\n# EOF\n',
          '# TYPE a counter\n# HELP a x\na 1\n# EOF\n', '# TYPE a gauge\n# HELP a x\na 1\na 1\n# EOF\n',
          '# TYPE a gauge\n# HELP a x\na{b="1} 1\n# EOF\n', '# TYPE a gauge\n# HELP a x\na nan\n# EOF\n',
          '# TYPE a histogram\n# HELP a x\na_bucket{le="+Inf"} 1\na_sum 1\na_count 2\n# EOF\n',
          '# TYPE a gauge\n# UNIT a bytes\n# HELP a x\na 1\n# EOF\n']


@case('e2e/metrics/reader-refuses-{n}', table=[dict(n=n) for n in range(len(BROKEN))])
def reader(t, n):
    """The instrument: each of these is against the specification."""
    try:
        read(BROKEN[n])
    except Failure:
        return
    raise Failure('taken: %r' % BROKEN[n])
