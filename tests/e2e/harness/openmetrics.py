# SPDX-License-Identifier: GPL-2.0-or-later
"""A strict reader of OpenMetrics 1.0, and of the Prometheus text format 0.0.4.

As strict as the specification where a lenient server would guess: families in
one piece, their TYPE, UNIT and HELP first, sample names that fit the type, no
sample twice, whole histograms, and the end marker.
"""
import math
import re

from .case import check

NAME = r'[a-zA-Z_:][a-zA-Z0-9_:]*'
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
SAMPLE = re.compile(r'(%s)(?:\{(.*)\})? (\S+)$' % NAME)
SUFFIXES = {'gauge': ('',), 'counter': ('_total',), 'histogram': ('_bucket', '_sum', '_count')}


class Family:
    def __init__(self, name, kind):
        self.name, self.kind = name, kind
        self.unit = self.help = None
        self.samples = {}       # (suffix, labels as a frozenset) -> float


def read_labels(text, line):
    labels = {}
    while text:
        m = LABEL.match(text)
        check(m, 'labels: ' + line)
        check(m[1] not in labels, 'a label twice: ' + line)
        labels[m[1]] = re.sub(r'\\(.)', lambda e: {'n': '\n'}.get(e[1], e[1]), m[2])
        text = text[m.end():]
        check(not (m[3] and not text), 'a comma at the end: ' + line)
    return frozenset(labels.items())


def read_meta(families, line, old):
    m = re.match(r'# (TYPE|UNIT|HELP) (%s) (.+)$' % NAME, line)
    check(m, 'no TYPE, UNIT, HELP or sample: ' + line)
    word, name, rest = m.groups()
    if word == 'TYPE':
        check(rest in SUFFIXES, 'type: ' + line)
        if old and rest == 'counter':
            check(name.endswith('_total'), 'a counter of the old format: ' + line)
            name = name.removesuffix('_total')
        else:
            check(not name.endswith('_total'), 'a suffix that is not for a family: ' + line)
        check(name not in families, 'a family twice, or in pieces: ' + line)
        families[name] = Family(name, rest)
        return families[name]
    family = list(families.values())[-1] if families else None
    wanted = family.name + ('_total' if old and family.kind == 'counter' else '')
    check(family and name == wanted and not family.samples, 'belongs to no family: ' + line)
    check(not (word == 'UNIT' and old), 'UNIT in the old format: ' + line)
    check(getattr(family, word.lower()) is None, 'twice: ' + line)
    setattr(family, word.lower(), rest)
    return family


def read_sample(family, line):
    m = SAMPLE.match(line)
    check(m, 'no sample: ' + line)
    check(family and m[1].startswith(family.name), 'of another family: ' + line)
    suffix = m[1][len(family.name):]
    check(suffix in SUFFIXES[family.kind], 'suffix of a %s: %s' % (family.kind, line))
    value = float(m[3])
    check(not math.isnan(value) and (family.kind == 'gauge' or value >= 0), 'value: ' + line)
    key = (suffix, read_labels(m[2] or '', line))
    check(key not in family.samples, 'a sample twice: ' + line)
    family.samples[key] = value


def check_histogram(family):
    rows = {}
    for (suffix, labels), value in family.samples.items():
        labels = dict(labels)
        le = labels.pop('le', None)
        check((le is not None) == (suffix == '_bucket'), '%s: le at %s' % (family.name, suffix))
        rows.setdefault(frozenset(labels.items()), []).append((suffix, le, value))
    for labels, row in rows.items():
        buckets = [(float(le), v) for s, le, v in row if s == '_bucket']
        rest = {s: v for s, _, v in row if s != '_bucket'}
        where = '%s%s: ' % (family.name, dict(labels))
        check(buckets == sorted(buckets) and math.isinf(buckets[-1][0]), where + str(buckets))
        check([v for _, v in buckets] == sorted(v for _, v in buckets), where + str(buckets))
        check(rest.keys() == {'_sum', '_count'} and rest['_count'] == buckets[-1][1],
              where + str(rest))


def read(text, old=False):
    """{family: {(suffix, labels): value}}; old: text format 0.0.4."""
    families, family = {}, None
    check(text.endswith('\n') and '\r' not in text, 'line ends')
    lines = text[:-1].split('\n')
    if not old:
        check(lines.pop() == '# EOF', 'no "# EOF" at the end')
    for line in lines:
        check(line and line == line.strip(), 'an empty line, or blanks: %r' % line)
        if line.startswith('#'):
            family = read_meta(families, line, old)
        else:
            read_sample(family, line)
    for family in families.values():
        check(family.help, family.name + ': no HELP')
        check(not family.unit or family.name.endswith('_' + family.unit), family.name + ': UNIT')
        if family.kind == 'histogram':
            check_histogram(family)
    return {f.name: f for f in families.values()}
