#!/bin/sh
# The whole walk on the synthetic phantom: install, slices, cohort, training, predictions, report, files for 3D Slicer.
set -eu

case ${1-} in
    -h | --help)
        echo "usage: sh scripts/quickstart.sh [settings of volseg train, such as --max_epochs 10]"
        echo "  writes .venv/ and data/quickstart/"
        exit 0
        ;;
esac

cd "$(dirname "$0")/.."
sh scripts/install.sh

# Where this is set, every start of Python compiles each file anew.
unset PYTHONDONTWRITEBYTECODE
# Idle threads of OpenMP spin by default: with another busy process on the machine, training is many times slower.
export OMP_WAIT_POLICY=passive
# glibc hands the memory of each freed tensor back to the system and asks for it anew: a fifth of the time of training;
# with an arena a thread in any case: half of the time of Swin UNETR.
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_ARENA_MAX=1
PATH=$(pwd -P)/.venv/bin:$PATH
export PATH

out=data/quickstart
step=preparing
trap '[ -z "$step" ] || echo "quickstart.sh: stopped at: $step" >&2' EXIT
run() {
    step=
    for word in "$@"; do # quoted where another shell, such as zsh, would read more than a word
        case $word in
        '' | *[!A-Za-z0-9_./=,:@%+-]*) word="'$word'" ;;
        esac
        step="$step${step:+ }$word"
    done
    printf '\n$ %s\n' "$step"
    "$@"
}

if [ -e "$out" ]; then
    echo "removing $out, which an earlier quickstart wrote"
    rm -rf "$out"
fi
started=$(date +%s)
run volseg phantom "$out/raw"
run volseg convert uw_madison "$out/raw" "$out/cohort"
run volseg check "$out/cohort"
if ! python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    # On a CPU a coarser grid, on which a window shows most of a scan, and a window for each of two cores.
    set -- --spacing_mm '[5,5,4]' --roi_size '[48,48,32]' --batch_size 2 --learning_rate 0.003 --max_epochs 32 \
        --val_interval 16 "$@"
fi
# One window a case and step: of the same minutes on a CPU that makes twice the steps, and a better network.
run volseg train unet --dataset_dir "$out/cohort" --output_dir "$out/run" --crops_per_case 1 --val_interval 7 "$@"
run volseg predict unet "$out/cohort" --part validation --checkpoint "$out/run/model.pt" -o "$out/predictions"
run volseg evaluate "$out/predictions" "$out/cohort" --part validation --title Phantom \
    -o "$out/report"
run volseg export slicer "$out/predictions" -o "$out/slicer"
step=
ended=$(date +%s)

for segmentation in "$out"/slicer/*.seg.nrrd; do
    break
done
key=$(basename "$segmentation" .seg.nrrd)
cat <<END

Done in $((ended - started)) s, installation not counted. Open these:
  $out/report/report.html   (in a browser; report.md is the same in short)
  $out/cohort/imagesTr/${key}_0000.nii.gz   (drop it on the window of 3D Slicer ...)
  $segmentation   (... and then this: it lies on the image)

Next, train on the embedded cohort with MONAI's own command:
  . .venv/bin/activate
  python -m monai.bundle run training --config_file bundles/swinunetr/train.json
END
