#!/bin/bash
# Train on four machines: sbatch docs/slurm/four_nodes.sh DATA RUN
#SBATCH --job-name=minunet
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=4
#SBATCH --time=12:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
set -u
export NUMBA_NUM_THREADS=$SLURM_CPUS_PER_TASK OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK

srun python -m mpi4py -m minunet.train --data "$1" --out "$2" --resume auto --batch-size 128 &
wait $!  # in the background, so that the script itself can be signalled
status=$?
[[ $status == 130 ]] && scontrol requeue "$SLURM_JOB_ID"  # it was stopped, and has saved itself
exit $status
