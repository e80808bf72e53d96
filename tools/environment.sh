# shellcheck shell=bash
# Sourced by the other scripts: makes .venv once, installs the project into it, and puts it first on the PATH.
# The install is repeated only when setup.cfg or pyproject.toml changes, or when more is asked for.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The argument names an extra of setup.cfg that is needed too.
prepare_environment() {
    local extra=${1:-} python=${PYTHON:-python3} stamp=.venv/.installed wanted installed=
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "error: Python 3.11 or newer is needed; name it with PYTHON=/path/to/python3" >&2; exit 2; }
    wanted=$(cat setup.cfg pyproject.toml | sha256sum | cut -d " " -f 1)
    [[ ! -f $stamp ]] || installed=$(<"$stamp")
    if [[ $installed != "$wanted $extra" && $installed != "$wanted dev" ]]; then
        echo "Installing scenebias into .venv, with PyTorch and DALI: several GB, minutes, once"
        "$python" -m venv .venv
        # Of the thousands of modules few are ever imported; those are compiled when they first are.
        .venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -e ".${extra:+[$extra]}"
        echo "$wanted $extra" > "$stamp"
    fi
    PATH=$PWD/.venv/bin:$PATH
}
