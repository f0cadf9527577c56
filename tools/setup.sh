#!/usr/bin/env bash
# Make a virtual environment with the locked dependencies and the project.
# usage: tools/setup.sh PYTHON VENV
set -euo pipefail

python=${1:-}
venv=${2:-.venv}
missing="needs Python 3.11, 3.12 or 3.13 with venv; on Debian or Ubuntu: apt-get install python3-venv git make"

if [ -z "$python" ] || ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
then
    echo "prompt-processing $missing" >&2
    echo "(another interpreter: make PYTHON=/path/to/python3.12 setup)" >&2
    exit 1
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null
then
    echo "prompt-processing $missing" >&2
    echo "($python has no venv module)" >&2
    exit 1
fi

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$(cat tools/uv-version)"
echo "Installing the locked dependencies into $venv ..."
"$venv/bin/uv" pip install --quiet --system-certs --python "$venv/bin/python" --require-hashes -r requirements.lock
# Path-based, so that the lsst namespace package stays whole.
"$venv/bin/uv" pip install --quiet --system-certs --python "$venv/bin/python" --no-deps --config-setting editable_mode=compat -e .
