# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/validation.md holds: its messages are the program's, its tests are there.

And the other way round: what the decoders refuse has a row.
"""
import glob
import os
import re
import subprocess

from harness import case, check
from harness.case import CASES

LITERAL = r'"(?:\\.|[^"\\\n])*"'
MACRO = r'\b(?:PRI[a-zA-Z]\w*|G_G\w+_FORMAT)\b'
TEXT = re.compile(r'(?:(?:%s|%s)\s*)+' % (LITERAL, MACRO))
CONVERSION = re.compile(r'%[-+ 0#]*[\d*]*(?:\.[\d*]+)?(?:hh|h|ll|l|z)?[a-zA-Z]')
# Where every refusal must have a row; the calls that refuse.
COMPLETE = ('wire/multifd.c', 'wire/ramblock.c', 'wire/method*.c', 'wire/main-*.c',
            'wire/link-frame.c', 'wire/page-history.c', 'wire/link-pack.c',
            'daemon/channel-reader.c', 'daemon/ingress-link*.c')
FRAME = re.compile(r'(?:^|: |got |, … )…$')     # what an inner message, with its own row, ends
REFUSAL = re.compile(r'\b(?:g_set_error\(error, WIRE_ERROR,\s*WIRE_ERROR_PROTOCOL,|'
                     r'main_parser_fail\([^"]*|pages_error\([^"]*|refuse_epoch\([^"]*)')


def plain(code):
    """A format as the page has it: '…' for whatever varies."""
    text = ''.join(p[1:-1] if p[0] == '"' else 'd'
                   for p in re.findall('%s|%s' % (LITERAL, MACRO), code))
    return CONVERSION.sub('…', text).replace('%%', '%').replace('\\"', '"')


def source(tree, name):
    with open(os.path.join(tree, name)) as f:
        return re.sub(r'/\*.*?\*/', '', f.read(), flags=re.S)


def files(tree, *patterns):
    return sorted(os.path.relpath(f, tree) for p in patterns
                  for f in glob.glob(os.path.join(tree, p)))


def rows(tree):
    """(line number, messages, tests) of each row."""
    with open(os.path.join(tree, 'docs/validation.md')) as f:
        for number, line in enumerate(f, 1):
            cells = [c.strip() for c in line.strip()[1:-1].split('|')]
            if line[0] != '|' or cells[0] in ('---', 'field', 'what'):
                continue
            check(len(cells) == 4, 'validation.md line %d: got %d cells, expected 4'
                  % (number, len(cells)))
            yield number, re.findall('`([^`]*)`', cells[2]), re.findall('`([^`]*)`', cells[3])


@case('e2e/validation/messages')
def messages(t):
    """A message that the page has is one that the program says."""
    tree = t.options.tree
    said = {plain(m[0]) for name in files(tree, 'wire/*.c', 'daemon/*.c', 'qmp/*.c')
            for m in TEXT.finditer(source(tree, name))}
    wrong = ['line %d: %s' % (number, text) for number, texts, _ in rows(tree)
             for text in texts if not any(text in s for s in said)]
    check(not wrong, 'validation.md: no source says: ' + '; '.join(wrong))


@case('e2e/validation/refusals')
def refusals(t):
    """What a decoder refuses has its row, with the message as it is now."""
    tree = t.options.tree
    page = {text for _, texts, _ in rows(tree) for text in texts}
    missing, found = [], 0
    for name in files(tree, *COMPLETE):
        code = source(tree, name)
        for m in REFUSAL.finditer(code):
            text = TEXT.match(code, code.find('"', m.start(), m.end() + 40))
            if text and not FRAME.search(plain(text[0])):
                found += 1
                if not any(row in plain(text[0]) for row in page if len(row) > 10):
                    missing.append('%s: %s' % (name, plain(text[0])))
    check(found > 60, 'got %d refusals out of the sources, expected more' % found)
    check(not missing, 'validation.md: no row has: ' + '; '.join(missing))


def unit_tests(t):
    """Names as the built programs list them; and for those not built, their words."""
    names, words = set(), []
    for name in files(t.options.tree, 'tests/unit/*/test-*.c'):
        program = os.path.join(t.options.build, name[:-2])
        if os.access(program, os.X_OK):
            p = subprocess.run([program, '-l'], capture_output=True, text=True, timeout=60,
                               check=True)
            names |= {line.removeprefix('# ') for line in p.stdout.split('\n')}
        else:
            literals = re.findall(LITERAL, source(t.options.tree, name))
            words.append({w for text in literals for w in text[1:-1].split('/')})
    return names, words


@case('e2e/validation/tests')
def tests(t):
    """Every row has a test, and the test is there."""
    names, words = unit_tests(t)
    names |= {c.name for c in CASES}
    wrong = []
    for number, _, wanted in rows(t.options.tree):
        check(wanted, 'validation.md line %d: got no test' % number)
        wrong += ['line %d: %s' % (number, name) for name in wanted if name not in names and
                  not any(w >= set(name[1:].split('/')) for w in words)]
    check(not wrong, 'validation.md: no runner has: ' + '; '.join(wrong))
