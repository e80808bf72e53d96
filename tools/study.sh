#!/usr/bin/env bash
# Does debiasing help? The whole study: data, oracle, tuning, every arm with every seed, measures, report.
# Usage: tools/study.sh --out DIR [options]; tools/study.sh --help tells them. Given again, it goes on where it was.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment
export OMP_NUM_THREADS=1  # as several runs go on side by side, which set their own threads
exec python -m scenebias.study "$@"
