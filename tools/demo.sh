#!/usr/bin/env bash
# The whole job on the demo world: render, pack, pretrain a baseline and two debiased models, transfer, measure, report.
# Usage: tools/demo.sh [folder], by default runs/demo. What is done already is not done again.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
prepare_environment
export OMP_NUM_THREADS=1  # as several runs go on side by side, which set their own threads
exec python -m scenebias.study.demo --out "${1:-runs/demo}"
