#!/bin/sh
# A cross-validation by a SLURM job array: a task trains and predicts its share of the folds. Submit it again to go on.
#SBATCH --job-name=volseg-crossval
#SBATCH --array=0-4
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --output=volseg-%A_%a.log
set -eu

usage() {
    echo "usage: sh scripts/slurm_crossval.sh BUNDLE... COHORT -o FOLDER [options of volseg crossval]"
    echo "  as a job array: sbatch --array=0-4 scripts/slurm_crossval.sh ..., always with the whole array; five folds of two"
    echo "  bundles are ten jobs, so --array=0-9 gives each a task of its own"
    echo "  the command volseg is on PATH in the job; COHORT and FOLDER are on a disk that all nodes see"
    echo "  afterwards, once: volseg crossval BUNDLE... COHORT -o FOLDER [the same options] --gather"
}

case ${1-} in
    -h | --help)
        usage
        exit 0
        ;;
esac
if [ $# -lt 4 ]; then
    usage >&2
    exit 2
fi

# The shares are fixed by the number of tasks. With another number nothing is lost: journals of all shards are read.
number=${SLURM_ARRAY_TASK_ID:-0}
count=${SLURM_ARRAY_TASK_COUNT:-1}
first=${SLURM_ARRAY_TASK_MIN:-0}
step=${SLURM_ARRAY_TASK_STEP:-1}
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}" OMP_WAIT_POLICY=passive
exec volseg crossval --shard "$(((number - first) / step))/$count" "$@"
