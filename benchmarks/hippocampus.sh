#!/bin/sh
# Swin UNETR on the 200 hippocampus volumes of the Medical Segmentation Decathlon: 160 to train on, 40 held out, one CPU.
set -eu

usage="usage: sh benchmarks/hippocampus.sh [RAW] [settings of volseg train]
  RAW    the folder Task04_Hippocampus; data/Task04_Hippocampus by default
  writes data/hippocampus, data/runs/hippocampus, data/hippocampus_predictions and data/hippocampus_report"

raw=
case ${1-} in
    -h | --help)
        echo "$usage"
        exit 0
        ;;
    "" | --*) ;;
    *)
        raw=$1
        shift
        if [ -d "$raw" ]; then
            raw=$(cd "$raw" && pwd -P)
        fi
        ;;
esac
cd "$(dirname "$0")/.."
raw=${raw:-data/Task04_Hippocampus}
if [ ! -f "$raw/dataset.json" ]; then
    echo "hippocampus.sh: $raw has no dataset.json." >&2
    echo "Get Task04_Hippocampus from medicaldecathlon.com, unpack it, and name its folder." >&2
    exit 2
fi
sh scripts/install.sh

# Idle threads of OpenMP spin by default: with another busy process on the machine, training is many times slower.
export OMP_WAIT_POLICY=passive
# glibc hands the memory of each freed tensor back to the system and asks for it anew: a fifth of the time of training;
# with an arena a thread in any case: half of the time of Swin UNETR.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_ARENA_MAX=1
PATH=$(pwd -P)/.venv/bin:$PATH
export PATH

run() {
    printf '\n$ %s\n' "$*"
    "$@"
}

cohort=data/hippocampus
echo "removing what an earlier run wrote: data/runs/hippocampus, data/hippocampus_predictions, data/hippocampus_report"
rm -rf data/runs/hippocampus data/hippocampus_predictions data/hippocampus_report
run volseg convert decathlon "$raw" "$cohort"
run volseg split "$cohort" --folds 5
started=$(date +%s)
# Left and right hippocampi are mirror images of each other, so flips along the first axis are fair.
run volseg train swinunetr --dataset_dir "$cohort" --output_dir data/runs/hippocampus --device cpu \
    --max_epochs 60 --val_interval 5 --batch_size 4 --crops_per_case 1 --flip_axes "[0]" "$@"
ended=$(date +%s)
run volseg predict swinunetr "$cohort" --part validation --checkpoint data/runs/hippocampus/model.pt --device cpu \
    -o data/hippocampus_predictions
run volseg evaluate data/hippocampus_predictions "$cohort" --part validation --title Hippocampus \
    -o data/hippocampus_report

printf '\ntraining took %s s\n\n' "$((ended - started))"
sed -n '/^## Result/,/^## What/p' data/hippocampus_report/report.md | sed '/^## /d'
