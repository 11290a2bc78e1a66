# SPDX-License-Identifier: GPL-2.0-or-later
#
# Completion of multiferry for fish.  Commands and options are asked of the
# program itself, names of the daemon, if it answers.

function __multiferry_command
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case -s --socket
                set -e words[1]
            case '-*'
            case '*'
                echo $words[1]
                return 0
        end
        set -e words[1]
    end
    return 1
end

function __multiferry_no_command
    not __multiferry_command >/dev/null
end

function __multiferry_commands
    multiferry help 2>/dev/null | sed -n '/^Commands:/,$ s/^  \([a-z-]*\) .*/\1/p'
end

function __multiferry_options
    multiferry help (__multiferry_command) 2>/dev/null |
        string match -rg '^ +(?:-., )?(--[a-z-]+)'
end

function __multiferry_peers
    timeout 1 multiferry peers 2>/dev/null | awk 'NR > 1 && /^[^ ]/ { print $1 }'
end

function __multiferry_migrations
    timeout 1 multiferry status 2>/dev/null |
        awk 'length($1) == 32 { print $1; print $2 }'
end

function __multiferry_wants_migration
    contains -- (__multiferry_command) migrate status cancel start-postcopy recover limit inspect report record history
end

function __multiferry_after_to
    contains -- (commandline -opc)[-1] -t --to
end

function __multiferry_after_test
    contains -- (__multiferry_command) link; and contains -- (commandline -opc)[-1] test
end

function __multiferry_wants_test
    contains -- (__multiferry_command) link; and not __multiferry_after_test
end

complete -c multiferry -f
complete -c multiferry -n __multiferry_wants_test -a test
complete -c multiferry -n __multiferry_after_test -a '(__multiferry_peers)'
complete -c multiferry -n __multiferry_no_command -a '(__multiferry_commands)'
complete -c multiferry -n 'contains -- (__multiferry_command) help' -a '(__multiferry_commands)'
complete -c multiferry -n 'string match -q -- "-*" (commandline -ct)' -a '(__multiferry_options)'
complete -c multiferry -n __multiferry_after_to -a '(__multiferry_peers)'
complete -c multiferry -n 'contains -- (__multiferry_command) limit' -a 'daemon (__multiferry_peers)'
complete -c multiferry -n __multiferry_wants_migration -a '(__multiferry_migrations)'
complete -c multiferry -n 'contains -- (__multiferry_command) inspect metrics' -F
