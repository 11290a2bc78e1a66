# SPDX-License-Identifier: GPL-2.0-or-later
"""The manuals hold what the programs have, and nothing else.

Programs are asked (--help, query-qmp-schema); members of answers, which the
schema calls "any", are read from the sources that make them.
"""
import os
import re
import subprocess

from harness import case, check
from harness.daemon import Daemon

QMP_TYPES = {'str': 'string', 'int': 'integer', 'bool': 'boolean', 'number': 'number',
             'any': 'value'}
# Where answers are made; those of query-version and its like are QEMU's.
ANSWERS = ('daemon/control.c', 'daemon/peer-status.c', 'daemon/migration-json.c',
           'daemon/traffic-json.c', 'daemon/control-recording.c', 'daemon/control-service.c', 'daemon/history.c')
MEMBER = re.compile(r'json_object_set_(?:\w+_)?member\(\s*\w+,\s*([^,;]+),')


class Manual:
    """One page: its sections, and in them the subsections and tagged items."""

    def __init__(self, tree, name):
        self.name = name
        with open(os.path.join(tree, 'docs', name)) as f:
            self.text = f.read()

    def section(self, title):
        m = re.search(r'^\.Sh %s\n(.*?)(?=^\.Sh |\Z)' % re.escape(title), self.text, re.M | re.S)
        check(m, '%s: got no section %s' % (self.name, title))
        return m[1]

    def subsections(self, title):
        parts = re.split(r'^\.Ss (.*)\n', self.section(title), flags=re.M)
        return dict(zip(parts[1::2], parts[2::2]))

    def options(self):
        """--config and -c of '.It Fl c , -config Ns = Ns Ar FILE'."""
        return {'-' + word for line in re.findall(r'^\.It Fl (.*)', self.text, re.M)
                for word in re.sub(r' Ns =.*| Ar .*', '', line).replace(',', ' ').split()}


def compare(what, got, expected, where):
    """Both ways: what is missing in the manual, and what only the manual has."""
    missing, invented = sorted(expected - got), sorted(got - expected)
    check(not missing, '%s: %s not described: %s' % (where, what, ', '.join(map(str, missing))))
    check(not invented, '%s: %s described that there is not: %s'
          % (where, what, ', '.join(map(str, invented))))


def help_of(program, *words):
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=20,
                          check=True).stdout


def options_of(text):
    return {word for line in re.findall(r'^  (-.*?)(?:   |$)', text, re.M)
            for word in re.findall(r'(?:^|, )(--?[\w-]+)', line)}


@case('e2e/manuals/multiferryd-options', needs=['daemon'])
def daemon_options(t):
    """An option that nobody finds is not there; one that is gone misleads."""
    page = Manual(t.options.tree, 'multiferryd.8')
    real = options_of(help_of(t.options.program('multiferryd'), '--help'))
    check('--config' in real and '-c' in real, 'got no options out of --help: %s' % real)
    compare('options', page.options(), real, page.name)


@case('e2e/manuals/multiferry-options', needs=['daemon'])
def client_options(t):
    """The client's commands, and the options of each."""
    page = Manual(t.options.tree, 'multiferry.1')
    program = t.options.program('multiferry')
    general = help_of(program, '--help')
    commands = set(re.findall(r'^  ([a-z-]+) .*', general.partition('Commands:')[2], re.M))
    check('migrate' in commands, 'got no commands out of --help: %s' % commands)
    compare('commands', set(page.subsections('DESCRIPTION')), commands, page.name)
    real = options_of(general)
    for command in commands:
        real |= options_of(help_of(program, 'help', command))
    compare('options', page.options(), real, page.name)


def described(text):
    """Arguments as (name, type, optional), in the words of the manual."""
    found = set()
    for line in re.findall(r'^\.It Cm (.*)', text, re.M):
        m = re.fullmatch(r'([\w-]+) Pq (\w+)( , optional)?', line)
        check(m, "multiferry-qmp.7: got '.It Cm %s', expected NAME Pq TYPE" % line)
        found.add((m[1], m[2], bool(m[3])))
    return found


def declared(entry, types):
    return {(m['name'], 'array' if m['type'].startswith('[') else QMP_TYPES[m['type']],
             'default' in m) for m in types[entry['arg-type']]['members']}


@case('e2e/manuals/qmp-{kind}s', needs=['daemon'], table=[
    dict(kind='command', section='COMMANDS'), dict(kind='event', section='EVENTS')])
def control_socket(t, kind, section):
    """Names, arguments, types, and what may be left out."""
    page = Manual(t.options.tree, 'multiferry-qmp.7')
    daemon = Daemon(t, 'dc1', {})
    schema = daemon.qmp.cmd('query-qmp-schema')
    types = {e['name']: e for e in schema if e['meta-type'] == 'object'}
    real = {e['name']: e for e in schema if e['meta-type'] == kind}
    texts = page.subsections(section)
    compare(kind + 's', set(texts), set(real), page.name)
    for name, entry in real.items():
        compare('arguments', described(texts[name]), declared(entry, types),
                '%s: %s' % (page.name, name))
    if kind == 'command':
        listed = {c['name'] for c in daemon.qmp.cmd('query-commands')}
        compare('commands of query-commands', set(texts), listed, page.name)


@case('e2e/manuals/qmp-answers')
def answers(t):
    """What query-… return: every member, each where the manual has its list."""
    page = Manual(t.options.tree, 'multiferry-qmp.7')
    real = set()
    for name in ANSWERS:
        with open(os.path.join(t.options.tree, name)) as f:
            for call in MEMBER.findall(f.read()):
                real |= set(re.findall(r'"([\w-]+)"', call))
    check('held-bytes-peak' in real and 'vm' in real, 'got no members out of %s' % (ANSWERS,))
    text = page.section('COMMANDS') + page.section('MIGRATIONS')
    words = re.findall(r'^\.(?:It )?Va (.*)', text, re.M)
    compare('members', {w for line in words for w in re.findall(r'[\w-]+', line)} -
            {'doc'}, real, page.name)
