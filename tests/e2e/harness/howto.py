# SPDX-License-Identifier: GPL-2.0-or-later
"""What a how-to in docs/ tells an operator to do, so that a case can do it.

A page cannot rot while its boxes are what the tests run.  A box is a fenced
block; the paragraph before it says what it is: "/etc/FILE at HOST" for a
file's contents, anything else for commands.
"""
import os
import re
import shlex

from .case import check

SECTION = re.compile(r'^## (.*)\n', re.M)
BOX = re.compile(r'((?:^[^\n]+\n)*)\n?^```(\w*)\n(.*?)^```$', re.M | re.S)
FILE = re.compile(r'`(/\S+)` at (\w+)')


def parse_groups(text):
    """The groups of a configuration: {'peer kvm2': {'lanes': '8'}}."""
    groups = {}
    for line in text.splitlines():
        line = line.strip()
        if line.startswith('['):
            group = groups.setdefault(line[1:-1], {})
        elif line and not line.startswith('#'):
            key, _, value = line.partition('=')
            group[key.strip()] = value.strip()
    return groups


class HowTo:
    """A page: the boxes of each section, by the section's title."""

    def __init__(self, tree, name):
        self.name = name
        with open(os.path.join(tree, 'docs', name)) as f:
            parts = SECTION.split(f.read())
        self.sections = dict(zip(parts[1::2], parts[2::2]))

    def boxes(self, section):
        check(section in self.sections, '%s: got no section "%s"' % (self.name, section))
        return BOX.findall(self.sections[section])

    def rows(self, section):
        """The rows of the section's tables, each a list of cells, heads left out."""
        rows = re.findall(r'^\| (.*) \|$', self.sections[section], re.M)
        return [row.split(' | ') for at, row in enumerate(rows)
                if '---' not in row and '---' not in rows[min(at + 1, len(rows) - 1)]]

    def files(self, section):
        """What the section writes: {(host, path): text}."""
        found = {}
        for before, _, text in self.boxes(section):
            m = FILE.search(before)
            if m:
                found[m[2], m[1]] = text
        return found

    def commands(self, section):
        """The section's commands, each a list of words."""
        found = []
        for _, language, text in self.boxes(section):
            if language == 'sh':
                found += [shlex.split(line) for line in text.replace('\\\n', ' ').splitlines()]
        check(found, '%s: got no command in section "%s"' % (self.name, section))
        return found
