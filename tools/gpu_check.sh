#!/usr/bin/env bash
# Checks everything that needs a GPU, on this machine: one table, gpu_check.json, and exit status 1 where something is
# wrong, with what it means and what to try. Usage: tools/gpu_check.sh --shards DIR [options]
shards_from=$PWD
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment bench
cd "$shards_from"
exec python -m scenebias.benchmark.gpu_check "$@"
