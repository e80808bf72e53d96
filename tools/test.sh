#!/usr/bin/env bash
# Makes .venv, then runs format, lint, type checks and the tests. Arguments go to pytest: tools/test.sh -k filmstrip
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment dev
ruff format --check shards dali_pipelines scenebias tools tests
ruff check shards dali_pipelines scenebias tools tests
export OMP_NUM_THREADS=1  # of each process, as several run at a time
# Modules that nobody has imported yet are compiled while types are checked, or each process of the tests would do it.
pytest --collect-only --quiet > /dev/null 2>&1 &
mypy
wait
# One process more than cores, as many tests wait for others' work. Files are dealt out in the order of tests/conftest.py.
cores=$(env --unset=OMP_NUM_THREADS nproc)  # which nproc would tell instead
exec pytest --numprocesses=$((cores + 1)) --maxprocesses=4 --dist=loadfile --no-loadscope-reorder "$@"
