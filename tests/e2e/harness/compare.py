# SPDX-License-Identifier: GPL-2.0-or-later
"""The same migration without us and through us: what comes of it must be the same.

A case gives a body, a function of a Way (ways.py).  It is run twice, and each
run ends in an outcome: QEMU's own status and, where that is not 'completed',
the class of the error that the source QEMU tells.  Every run of a case with an
outcome is a line of the table that tests/e2e/run and versions print.
"""
import re

from .case import Skip, check

# What a source says in error-desc, by what the operator would make of it.  The first
# that matches; QEMU before 8.0 says nothing of a lost connection.
CLASSES = (
    ('certificate', r'(?i)certificate'),
    ('tls', r'(?i)handshake|\balert\b|\bpsk\b'),
    ('refused', r'Connection refused|No such file|No route|timed out'),
    ('lost', r'^$|Broken pipe|reset by peer|Input/output error|Bad file descriptor|end-of-file'
             r'|Sibling|RP:|Unable to (read|write)|(read from|write to) TLS channel'
             r'|TLS output: Error in the push'),
)


def error_class(text):
    for name, pattern in CLASSES:
        if re.search(pattern, text):
            return name
    return text


def outcome(migration):
    """'completed', 'cancelled', or 'failed (CLASS)', of a final query-migrate."""
    if migration['status'] != 'failed':
        return migration['status']
    return 'failed (%s)' % error_class(migration.get('error-desc', ''))


def compare(t, way, body, mends=None, unlike=None):
    """Run body(way) directly and through the way; it returns an outcome each time.

    mends: why the direct migration may fail where ours must complete.
    unlike: why the source hears of a failure in other words from us; that it
    fails must be the same.
    """
    direct = through = 'FAIL'
    try:
        direct = run(t, way.directly(), body)
        through = run(t, way, body)
    except Skip:
        direct = through = 'skipped'
        raise
    finally:
        t.result(way.legs, direct, through, mends or unlike)
    if mends:
        check(through == 'completed', 'through us: %s, expected completed' % through)
    elif unlike:
        check(through.split()[0] == direct.split()[0], 'direct: %s, through us: %s'
              % (direct, through))
    else:
        check(through == direct, 'direct: %s, through us: %s' % (direct, through))
    return through


def run(t, way, body):
    got = body(way)
    t.log('%s: %s' % (way.kind, got))
    way.close()
    return got


def format_table(rows):
    """The rows as lines of text, in columns."""
    head = ('case', 'source', 'destination', 'N→W→K', 'direct', 'through us')
    lines = [head] + [tuple(r.get(k, '?') for k in ROW) for r in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return ['  '.join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines]


ROW = ('case', 'source', 'destination', 'legs', 'direct', 'through')


def format_markdown(rows):
    """The same for the documentation: a case once, a column for each pair of versions."""
    rows = [r for r in rows if 'source' in r and 'destination' in r]
    pairs = sorted({(r['source'], r['destination']) for r in rows}, key=version_key)
    cells = {}
    for r in rows:
        cells.setdefault((r['case'], r['legs']), {})[r['source'], r['destination']] = cell(r)
    head = ['case', 'N→W→K'] + ['%s → %s' % p for p in pairs]
    lines = [head, ['---'] * len(head)] + [
        [name, legs] + [by_pair.get(p, '') for p in pairs]
        for (name, legs), by_pair in sorted(cells.items())]
    return ['| %s |' % ' | '.join(line) for line in lines]


def version_key(pair):
    return [[int(n) for n in re.findall(r'\d+', v)] for v in pair]


def cell(row):
    if row['direct'] in ('-', row['through']):
        return row['through']
    return '%s; direct: %s (%s)' % (row['through'], row['direct'], row['why'])
