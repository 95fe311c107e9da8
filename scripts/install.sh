#!/bin/sh
# Installs volseg into .venv at the root of the checkout; does nothing where that was done for the same versions.
set -eu

usage="usage: sh scripts/install.sh [test]
  test    install what the tests need as well
  PYTHON=/path/to/python    use this Python (3.10 to 3.14)"

case ${1-} in
    "" | test) ;;
    -h | --help)
        echo "$usage"
        exit 0
        ;;
    *)
        echo "install.sh: '$1' was not understood" >&2
        echo "$usage" >&2
        exit 2
        ;;
esac
extra=${1-}

cd "$(dirname "$0")/.."
root=$(pwd -P)

fits() { # whether "$1" is a Python that volseg runs on
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1
}

make_venv() {
    if [ -n "${PYTHON:-}" ]; then
        set -- "$PYTHON"
    else
        set -- python3.11 python3.12 python3.13 python3.10 python3.14 python3 python
    fi
    without_venv=
    for python in "$@"; do
        fits "$python" || continue
        if "$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then
            echo "making .venv with $("$python" --version)"
            "$python" -m venv --clear .venv
            return
        fi
        without_venv=$python
    done
    if [ -n "$without_venv" ]; then
        version=$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        echo "install.sh: $without_venv has no venv module." >&2
        echo "On Debian or Ubuntu: sudo apt install python$version-venv; then run this again." >&2
    elif [ -n "${PYTHON:-}" ]; then
        echo "install.sh: PYTHON=$PYTHON is no Python 3.10 to 3.14; name one." >&2
    else
        echo "install.sh: no Python 3.10 to 3.14 was found." >&2
        echo "Install one, or name it: PYTHON=/path/to/python3.11 sh scripts/install.sh" >&2
    fi
    exit 1
}

# A virtual environment does not survive a move, so its place belongs to the stamp.
stamp=$(cat setup.cfg setup.py pyproject.toml constraints.txt | cksum | cut -d ' ' -f 1,2)" $root"
same() { # whether the stamp file "$1" is of these versions
    [ -f "$1" ] && [ "$(cat "$1")" = "$stamp" ]
}

if ! fits .venv/bin/python; then
    [ ! -e .venv ] || echo "the Python in .venv is gone or too old"
    make_venv
elif same .venv/volseg-test || { [ -z "$extra" ] && same .venv/volseg-run; }; then
    exit 0
fi

echo "installing volseg into $root/.venv (some minutes at first; PyTorch is large)"
export PIP_DISABLE_PIP_VERSION_CHECK=1
# torch first and alone: the build that the pin finds is then kept by what follows.
.venv/bin/python -m pip install -q -c constraints.txt torch
.venv/bin/python -m pip install -q -c constraints.txt -e ".${extra:+[$extra]}"
rm -f .venv/volseg-run .venv/volseg-test
echo "$stamp" >".venv/volseg-${extra:-run}"
