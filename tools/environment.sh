# shellcheck shell=bash
# Sourced by the other scripts: makes .venv once, installs the project into it, and puts it first on the PATH.
# DALI and PyTorch are taken for the CUDA that the machine's driver serves (scenebias/cuda_builds.py says which, and why).
# The install is repeated only when setup.cfg or pyproject.toml changes, when more is asked for, or when the driver now
# serves another CUDA.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The argument names an extra of setup.cfg that is needed too.
prepare_environment() {
    local extra=${1:-} python=${PYTHON:-python3} stamp=.venv/.installed knowing cuda wanted installed=
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "error: Python 3.11 or newer is needed; name it with PYTHON=/path/to/python3" >&2; exit 2; }
    wanted=$(cat setup.cfg pyproject.toml | sha256sum | cut -d " " -f 1)
    [[ ! -f $stamp ]] || installed=$(<"$stamp")
    knowing=$python
    [[ ! -x .venv/bin/python ]] || knowing=.venv/bin/python # the torch that is installed
    cuda=$("$knowing" -m scenebias.cuda_builds 2> /dev/null)
    if [[ $installed != "$wanted $cuda $extra" && $installed != "$wanted $cuda dev" ]]; then
        echo "Installing scenebias into .venv, with PyTorch and DALI: several GB, minutes, once"
        "$knowing" -m scenebias.cuda_builds > /dev/null # says why
        # DALI for one CUDA and for another write the same files.
        [[ $installed != *" cuda"* || $installed == *" $cuda "* ]] || rm -rf .venv
        "$python" -m venv .venv
        # Of the thousands of modules few are ever imported; those are compiled when they first are.
        .venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -e ".[$cuda${extra:+,$extra}]"
        echo "$wanted $cuda $extra" > "$stamp"
    fi
    PATH=$PWD/.venv/bin:$PATH
    unset PYTHONDONTWRITEBYTECODE # or every process would compile anew what the install has not
}
