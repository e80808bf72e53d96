# shellcheck shell=bash
# Sourced by the other scripts: makes .venv once, installs the project into it, and puts it first on the PATH.
# The install is repeated only when setup.cfg or pyproject.toml changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

prepare_environment() {
    local python=${PYTHON:-python3} stamp=.venv/.installed wanted
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "error: Python 3.11 or newer is needed; name it with PYTHON=/path/to/python3" >&2; exit 2; }
    wanted=$(cat setup.cfg pyproject.toml | sha256sum)
    if [[ ! -f $stamp || $(<"$stamp") != "$wanted" ]]; then
        echo "Installing scenebias into .venv, with PyTorch and DALI: several GB, minutes, once"
        "$python" -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
        echo "$wanted" > "$stamp"
    fi
    PATH=$PWD/.venv/bin:$PATH
}
