# SPDX-License-Identifier: GPL-2.0-or-later
"""The manuals hold what the programs have, and nothing else.

Programs are asked (--help, query-qmp-schema); members of answers, which the
schema calls "any", are read from the sources that make them.
"""
import glob
import os
import re
import subprocess

from cases.validation import TEXT, files, plain, source
from harness import case, check
from harness.daemon import Daemon
from harness.howto import HowTo

QMP_TYPES = {'str': 'string', 'int': 'integer', 'bool': 'boolean', 'number': 'number',
             'any': 'value'}
# Where answers are made; those of query-version and its like are QEMU's.
ANSWERS = ('daemon/control.c', 'daemon/control-migration.c', 'daemon/control-peers.c',
           'daemon/peer-status.c', 'daemon/migration-json.c',
           'daemon/traffic-json.c', 'daemon/control-recording.c', 'daemon/control-service.c', 'daemon/history.c', 'daemon/link-test.c',
           'daemon/link-test-result.c')
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
        return options_in(self.text)


def options_in(text):
    """--config and -c of '.It Fl c , -config Ns = Ns Ar FILE'."""
    return {'-' + word for line in re.findall(r'^\.It Fl (.*)', text, re.M)
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
    common = options_of(general)
    texts = page.subsections('DESCRIPTION')
    for command in commands:
        compare('options', options_in(texts[command]),
                options_of(help_of(program, 'help', command)) - common,
                '%s: %s' % (page.name, command))


def keys_of(tree):
    """The configuration table: {group: keys}."""
    with open(os.path.join(tree, 'daemon/config-table.c')) as f:
        text = f.read()
    arrays = {name: set(re.findall(r'^    \{ "([\w@-]+)",', body, re.M)) for name, body in
              re.findall(r'ConfigKey (\w+)\[\] = \{\n(.*?)^\};', text, re.M | re.S)}
    groups = re.findall(r'^    \{ "(\w+)", .*?KEYS\((\w+)\)',
                        text.partition('config_table_groups[]')[2], re.M | re.S)
    return {name: arrays[keys] for name, keys in groups}


@case('e2e/manuals/configuration')
def configuration(t):
    """Each group and key of the table is in the manual and in the sample, and no other."""
    real = keys_of(t.options.tree)
    check('control' in real['daemon'] and 'qmp' in real['vm'], 'got %s' % real)
    page = Manual(t.options.tree, 'multiferryd.conf.5')
    texts = {re.sub(r'^The group |^Groups | NAME$', '', title): text
             for title, text in page.subsections('GROUPS').items()}
    compare('groups', set(texts), set(real), page.name)
    for group, keys in real.items():
        compare('keys', set(re.findall(r'^\.It Cm ([\w@-]+) Ns', texts[group], re.M)), keys,
                '%s: [%s]' % (page.name, group))
    with open(os.path.join(t.options.tree, 'systemd/multiferryd.conf')) as f:
        parts = re.split(r'^#?\[(\w+).*\]\n', f.read(), flags=re.M)
    sample = {}
    for group, text in zip(parts[1::2], parts[2::2]):
        sample.setdefault(group, set()).update(
            re.findall(r'^#?((?:rate@|[a-z-]+))[\d:-]*=', text, re.M))
    compare('groups', set(sample), set(real), 'multiferryd.conf')
    for group, keys in real.items():
        compare('keys', sample[group], keys, 'multiferryd.conf: [%s]' % group)


# What the system says, and QEMU.
OTHERS = ('Connection refused', 'Permission denied', 'timed out', 'Warning', 'migrate', 'paused')


def fragments(text):
    """What of a quoted message does not vary: no '...', numbers, or names in quotes."""
    text = re.sub(r"'[^']*'|\bNAME\b|\b0x[0-9a-f]+|\b[\d.:]+\b|\btcp:\S+|\bunix:\S*", '...', text)
    return [p.strip(" ,;:'") for p in re.split(r'\.\.\.|: ', text) if len(p.strip(" ,;:'")) > 7]


def quoted(tree):
    """(where, message) of what the pages say that the program says."""
    page = Manual(tree, 'multiferryd.8')
    for text in re.findall(r'^\.It "(.*)"', page.section('DIAGNOSTICS'), re.M):
        yield page.name, text
    for name, section in (('failures.md', 'Why?'), ('certificates.md', 'Messages'),
                          ('first-migration.md', 'If it did not work')):
        for row in HowTo(tree, name).rows(section):
            for text in re.findall('`([^`]*)`', row[0]):
                yield name, text


@case('e2e/manuals/messages')
def messages(t):
    """An operator finds the words that he sees."""
    tree = t.options.tree
    said = '\n'.join(plain(m[0]) for name in files(tree, 'wire/*.c', 'daemon/*.c', 'qmp/*.c')
                     for m in TEXT.finditer(source(tree, name)))
    found = list(quoted(tree))
    check(len(found) > 50, 'got %d messages out of the pages, expected more' % len(found))
    wrong = ['%s: %s' % (where, part) for where, text in found for part in fragments(text)
             if part not in said and not any(o in part for o in OTHERS)]
    check(not wrong, 'no source says: ' + '; '.join(wrong))


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


def anchors(path):
    """What a page's headings are called in a link."""
    with open(path) as f:
        return {re.sub(r'[^\w\- ]', '', h.lower()).replace(' ', '-')
                for h in re.findall(r'^#+ (.*)', f.read(), re.M)}


@case('e2e/manuals/links')
def links(t):
    """A link in a page leads to a file that is there, and to a heading that it has."""
    pages = glob.glob(os.path.join(t.options.tree, 'docs/*.md')) + [
        os.path.join(t.options.tree, name) for name in ('README.md', 'NEWS.md')]
    wrong = []
    for page in pages:
        with open(page) as f:
            found = re.findall(r'\]\(([^)#\s]*)(?:#([^)\s]*))?\)', f.read())
        for name, anchor in found:
            target = os.path.join(os.path.dirname(page), name) if name else page
            if '://' not in name and not (os.path.exists(target) and
                                          (not anchor or anchor in anchors(target))):
                wrong.append('%s: %s#%s' % (os.path.basename(page), name, anchor))
    check(not wrong, 'lead nowhere: ' + ', '.join(wrong))
    index = os.path.join(t.options.tree, 'docs/index.md')
    with open(index) as f:
        text = f.read()
    lost = [n for n in map(os.path.basename, pages + glob.glob(
        os.path.join(t.options.tree, 'docs/*.[1578]'))) if n not in text and n not in
        ('index.md', 'README.md')]
    check(not lost, 'not in index.md: ' + ', '.join(lost))
