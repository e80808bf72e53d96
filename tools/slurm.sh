#!/usr/bin/env bash
# Trains on several machines of a Slurm cluster: one torchrun on each, which starts a process for each of its GPUs.
# Usage, in the folder of the project: sbatch tools/slurm.sh -m scenebias.pretrain --train … --val … --out …
# All machines must see that folder and the data. Change what follows to what you have, or say it to sbatch, as in
# sbatch --nodes=4 --time=8:00:00 tools/slurm.sh …
#SBATCH --job-name=scenebias
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
# Two minutes before the time is up this script is told. Training saves all steps, and the job queues again: the same
# command goes on where it was. Give a longer time where a checkpoint takes longer to write. --requeue does the same
# after a machine has failed, or when the job has to make room for another.
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

PATH=$PWD/.venv/bin:$PATH  # made by tools/test.sh or tools/demo.sh; change it where yours is elsewhere
RESTARTS=3                 # how often the processes start again by themselves after one has crashed

# The torchruns meet on the first machine, at a port of this job's own.
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
torchrun=(
    torchrun
    --nnodes="$SLURM_JOB_NUM_NODES"
    --nproc_per_node="${SLURM_GPUS_ON_NODE:-1}"
    --max-restarts="$RESTARTS"
    --rdzv_id="$SLURM_JOB_ID"
    --rdzv_backend=c10d
    --rdzv_endpoint="$first:$((20000 + SLURM_JOB_ID % 10000))"
    --signals-to-handle="SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
)

told=
trap 'told=yes; kill -USR1 "$step"' USR1
# Whoever ends first leaves the others two minutes to save.
srun --kill-on-bad-exit=0 --wait=120 "${torchrun[@]}" "$@" &
step=$!
status=0
wait "$step" || status=$?
if [[ $told ]]; then # it was the signal that ended the waiting
    wait "$step" || status=$?
    echo "the time is nearly up: the job queues again and goes on"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
