# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Completion of multiferry and multiferryd for bash.  Commands and options are
# asked of the programs themselves, names of the daemon, if it answers.

_multiferry_options() {
    "$@" 2>/dev/null | sed -n 's/^  \(-.,\)\{0,1\} *\(--[a-z-]*\)\(=\{0,1\}\).*/\2\3/p'
}

_multiferry_commands() {
    "$1" help 2>/dev/null | sed -n '/^Commands:/,$ s/^  \([a-z-]*\) .*/\1/p'
}

_multiferry_peers() {
    timeout 1 "$@" peers 2>/dev/null | awk 'NR > 1 && /^[^ ]/ { print $1 }'
}

# Ids and names of migrations.
_multiferry_migrations() {
    timeout 1 "$@" status 2>/dev/null |
        awk 'length($1) == 32 { print $1; print $2 }'
}

_multiferry() {
    local program=${COMP_WORDS[0]} current=${COMP_WORDS[COMP_CWORD]}
    local previous=${COMP_WORDS[COMP_CWORD - 1]} command='' word i
    local -a client=("$program")

    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        case $word in
        -s | --socket)
            # "--socket=X" is three words for bash.
            [[ ${COMP_WORDS[i + 1]} == '=' ]] && ((i++))
            client+=(--socket "${COMP_WORDS[++i]}")
            ;;
        -* | =) ;;
        *) [[ -n $command ]] || command=$word ;;
        esac
    done
    [[ $previous == '=' ]] && previous=${COMP_WORDS[COMP_CWORD - 2]}
    [[ $current == '=' ]] && current=

    local words=''
    case $previous in
    -t | --to) words=$(_multiferry_peers "${client[@]}") ;;
    --handover) words='safe fast' ;;
    -s | --socket | -f | --textfile | --output)
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    *)
        case $command,$current in
        *,-*) words=$(_multiferry_options "$program" help $command) ;;
        ,*) words=$(_multiferry_commands "$program") ;;
        help,*) words=$(_multiferry_commands "$program") ;;
        link,*)
            if [[ $previous == test ]]; then
                words=$(_multiferry_peers "${client[@]}")
            else
                words=test
            fi
            ;;
        limit,*)
            words="daemon $(_multiferry_peers "${client[@]}")"
            words+=" $(_multiferry_migrations "${client[@]}")"
            ;;
        inspect,*)
            words=$(_multiferry_migrations "${client[@]}")
            mapfile -t COMPREPLY < <(compgen -f -- "$current")
            ;;
        *) words=$(_multiferry_migrations "${client[@]}") ;;
        esac
        ;;
    esac
    while read -r word; do
        COMPREPLY+=("$word")
    done < <(compgen -W "$words" -- "$current")
    # An option that wants a value is not complete.
    [[ ${COMPREPLY[*]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}

_multiferryd() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}

    case $previous,$current in
    -c,* | --config,* | =,*) mapfile -t COMPREPLY < <(compgen -f -- "${current#=}") ;;
    *) mapfile -t COMPREPLY < <(
        compgen -W "$(_multiferry_options "${COMP_WORDS[0]}" --help)" -- "$current") ;;
    esac
    [[ ${COMPREPLY[*]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}

complete -F _multiferry multiferry
complete -F _multiferryd multiferryd
