#!/bin/sh
# The steps of a script that goes on after a stop; read by such scripts with ". scripts/steps.sh", not run by itself.
# They set $here, the checkout, and define refuse before, and say what $failed names at their end.
set -eu

if ! command -v volseg >/dev/null 2>&1; then
    PATH=$here/.venv/bin:$PATH
    export PATH
    command -v volseg >/dev/null 2>&1 || refuse "the command volseg is not there; install it with sh $here/scripts/install.sh"
fi

# Idle threads of OpenMP spin by default: with another busy process on the machine, a network is many times slower.
export OMP_WAIT_POLICY=passive

failed=
step=
on_exit() {
    [ -z "$step" ] || echo "${0##*/}: stopped at: $step; the same command goes on" >&2
}
trap on_exit EXIT

announce() { # the step that begins, which the end of the script names if it ends there
    step=
    for word in "$@"; do # quoted where another shell, such as zsh, would read more than a word; a lone one is a sentence
        [ $# -gt 1 ] || break
        case $word in
        '' | *[!A-Za-z0-9_./=,:@%+-]*) word="'$word'" ;;
        esac
        step="$step${step:+ }$word"
    done
    step=${step:-$*}
    printf '\n$ %s\n' "$step"
}
cases_may_fail() { # NAME COMMAND...: exit code 1 means that cases failed; the name is kept, and the script goes on
    name_of_step=$1
    shift
    code=0
    "$@" || code=$?
    [ "$code" -le 1 ] || exit "$code"
    [ "$code" -eq 0 ] || failed="$failed${failed:+, }$name_of_step"
}
run() { # a step in which cases may fail, and the others go on
    announce "$@"
    cases_may_fail "$1 $2" "$@"
}
all_or_stop() { # a step that the next one needs whole
    announce "$@"
    "$@"
}
