#!/bin/sh
# A cohort predicted by a SLURM job array: one task is one shard, on one GPU. Submit it again to go on after a stop.
#SBATCH --job-name=volseg-predict
#SBATCH --array=0-7
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=24:00:00
#SBATCH --output=volseg-%A_%a.log
set -eu

usage() {
    echo "usage: sh scripts/slurm_predict.sh BUNDLE INPUT OUTPUT [options of volseg predict]"
    echo "  as a job array: sbatch --array=0-7 scripts/slurm_predict.sh ..., always with the whole array"
    echo "  the command volseg is on PATH in the job; INPUT and OUTPUT are on a disk that all nodes see"
    echo "  afterwards: volseg predict BUNDLE INPUT -o OUTPUT, which finds all done and writes one run_report.json"
}

case ${1-} in
    -h | --help)
        usage
        exit 0
        ;;
esac
if [ $# -lt 3 ]; then
    usage >&2
    exit 2
fi
bundle=$1 input=$2 output=$3
shift 3

# The shares are fixed by the number of tasks. With another number nothing is lost: journals of all shards are read.
number=${SLURM_ARRAY_TASK_ID:-0}
count=${SLURM_ARRAY_TASK_COUNT:-1}
first=${SLURM_ARRAY_TASK_MIN:-0}
step=${SLURM_ARRAY_TASK_STEP:-1}
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}" OMP_WAIT_POLICY=passive
exec volseg predict "$bundle" "$input" -o "$output" --shard "$(((number - first) / step))/$count" "$@"
