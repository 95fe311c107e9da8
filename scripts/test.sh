#!/bin/sh
# Installs volseg with what its tests need, then runs every check that CI runs.
set -eu

usage="usage: sh scripts/test.sh [--fast] [arguments of pytest]
  --fast    leave out the tests marked slow"

fast=
case ${1-} in
    -h | --help)
        echo "$usage"
        exit 0
        ;;
    --fast)
        fast=yes
        shift
        ;;
esac

# The arguments of pytest may name files: those are looked up from the root of the checkout.
cd "$(dirname "$0")/.."
sh scripts/install.sh test

# Idle threads of OpenMP spin by default: with another busy process on the machine, training is many times slower.
export OMP_WAIT_POLICY=passive
# glibc hands the memory of each freed tensor back to the system and asks for it anew: a fifth of the time of training;
# with an arena a thread in any case: half of the time of Swin UNETR.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_ARENA_MAX=1
# Containers often forbid byte code: each of a hundred processes would compile the same sources anew.
unset PYTHONDONTWRITEBYTECODE
PATH=$(pwd -P)/.venv/bin:$PATH
export PATH

# A process per core, of one thread each: most tests use no more than one. No more than four, since each takes gigabytes.
cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
processes=$((cores < 4 ? cores : 4))

failed=
check() {
    printf '\n$ %s\n' "$*"
    "$@" || failed="$failed
  $*"
}
check ruff check
check ruff format --check
check mypy
if [ -n "$fast" ]; then
    check env OMP_NUM_THREADS=1 pytest -n "$processes" --dist worksteal -m "not slow" "$@"
else
    check env OMP_NUM_THREADS=1 pytest -n "$processes" --dist worksteal "$@"
fi
if [ -n "$failed" ]; then
    echo "test.sh: failed:$failed" >&2
    exit 1
fi
