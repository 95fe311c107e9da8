#!/bin/sh
# U-Net and Segformer on chest X-rays and on nuclei, each with the same time: Dice, objects found, pictures.
set -eu

usage="usage: sh benchmarks/images.sh RAW_LUNGS RAW_TISSUE [options]
  RAW_LUNGS          folder of chest X-rays: train, valid and test, each with images/KEY.jpg and masks/KEY.jpg
  RAW_TISSUE         folder of the Data Science Bowl 2018: KEY/images/KEY.png and KEY/masks/*.png, one a nucleus
  --minutes N        training time of each network on each of the two, 15 by default
  --networks A,B     unet,segformer by default
  --data A,B         lungs,nuclei by default
  writes data/benchmarks/images; what is finished there is not done again, so the command can be repeated"

case ${1-} in
    -h | --help)
        echo "$usage"
        exit 0
        ;;
esac
if [ ! -d "${1-}" ] || [ ! -d "${2-}" ]; then
    echo "images.sh: name the two folders of images." >&2
    echo "$usage" >&2
    exit 2
fi
lungs=$(cd "$1" && pwd -P)
tissue=$(cd "$2" && pwd -P)
shift 2
cd "$(dirname "$0")/.."
sh scripts/install.sh

# See benchmarks/hippocampus.sh.
export OMP_WAIT_POLICY=passive
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_ARENA_MAX=1
PATH=$(pwd -P)/.venv/bin:$PATH
export PATH

place=data/benchmarks/images
volseg convert images "$lungs" "$place/lungs/cohort" --colour grey \
    --images "*/images/{key}.jpg" --masks "lung=*/masks/{key}.jpg" --validation "valid/**" --validation "test/**"
volseg convert images "$tissue" "$place/nuclei/cohort" --colour rgb \
    --images "{key}/images/*.png" --masks "nucleus={key}/masks/*.png" --objects files \
    --validation "2*/**" --validation "3*/**"
python benchmarks/images.py "$place" "$@"
