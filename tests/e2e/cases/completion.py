# SPDX-License-Identifier: GPL-2.0-or-later
"""What the shells offer behind "multiferry"."""
import os
import re
import subprocess

from harness import case, check
from harness.daemon import Client
from harness.sites import Sites

BASH = '''
set -f
source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
"_$1"
printf '%s\\n' "${COMPREPLY[@]}"
'''
# As a shell without its completion system; what matches is not its business here.
ZSH = '''
compadd() { shift; print -l -- "$@" }
_files() { print -l -- FILES }
file=$1
shift
words=("$@")
CURRENT=$#
set --
source $file
'''
FISH = 'source $argv[1]; complete -C "$argv[2..-1]"'

SHELLS = {'bash': ('multiferry.bash', BASH), 'zsh': ('_multiferry', ZSH),
          'fish': ('multiferry.fish', FISH)}


def offered(t, shell, socket, *words):
    """The candidates for the last of the words."""
    name, script = SHELLS[shell]
    path = os.path.join(t.options.tree, 'daemon/completion', name)
    no_files = {'bash': ['--norc', '--noprofile'], 'zsh': ['-f'], 'fish': ['--no-config']}[shell]
    p = subprocess.run(
        [shell, *no_files, '-c', script, *([] if shell == 'fish' else [shell]), path, *words],
        capture_output=True, text=True, timeout=20, cwd=t.dir,
        env={**os.environ, 'MULTIFERRY_SOCKET': socket, 'TERM': 'dumb', 'HOME': t.dir,
             'PATH': t.options.build + ':' + os.environ['PATH']})
    t.log('%s: %s -> %s %s' % (shell, words, p.stdout.split(), p.stderr))
    check(not p.stderr, '%s: %s' % (shell, p.stderr))
    last = words[-1]
    return {w.split('\\t')[0].strip().rstrip('=') for w in p.stdout.splitlines()
            if w.startswith(last) or shell != 'zsh'} - {''}


@case('e2e/completion/{shell}', needs=['daemon'], table=[
    dict(shell='bash'), dict(shell='zsh'), dict(shell='fish')])
def completion(t, shell):
    """Commands and options as the program has them, names as the daemon knows them."""
    t.need(shell)
    sites = Sites(t, tls='psk')
    sites.dc1.qmp.cmd('query-status')
    client, socket = Client(t, sites.dc1), 'unix:' + sites.dc1.control_path

    def ask(*words):
        return offered(t, shell, socket, 'multiferry', *words)

    general = client.run('help')[1]
    commands = set(re.findall(r'^  ([a-z-]+) .*', general.partition('Commands:')[2], re.M))
    check(ask('') == commands and 'migrate' in commands, 'commands: %s' % ask(''))
    check(ask('mi') == {'migrate'}, 'mi: %s' % ask('mi'))
    check(ask('help', 'ca') == {'cancel'}, 'help ca: %s' % ask('help', 'ca'))
    for command in ('migrate', 'quit', 'history', 'link'):
        text = client.run('help', command)[1]
        options = set(re.findall(r'^  (?:-., )? *(--[a-z-]+)', text, re.M))
        got = ask(command, '--')
        check(got == options, '%s --: got %s, expected %s' % (command, got, options))
    check(ask('migrate', 'x', '--to', '') == {'dc2'}, '--to: %s' % ask('migrate', 'x', '--to', ''))
    check(ask('link', 'te') == {'test'}, 'link: %s' % ask('link', 'te'))
    check(ask('link', 'test', 'd') == {'dc2'}, 'link test: %s' % ask('link', 'test', 'd'))
    check({'daemon', 'dc2'} <= ask('limit', 'd'), 'limit: %s' % ask('limit', 'd'))
    sites.dc1.terminate()
    check(ask('migrate', 'x', '--to', '') == set(), 'without a daemon')
