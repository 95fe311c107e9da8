#!/bin/sh
# Packs the phantom network that comes with volseg: bundles/phantom from a training on the embedded phantom, with its page.
set -eu

usage="usage: sh scripts/pack_phantom.sh RUN
  RUN    folder of the training on all cases of the phantom:
           volseg phantom raw && volseg convert uw_madison raw phantom
           volseg train dense_unet --dataset_dir phantom --fold all --max_minutes 14 --max_epochs 1000 --output_dir RUN"

case ${1-} in
    -h | --help)
        echo "$usage"
        exit 0
        ;;
esac
if [ $# -ne 1 ]; then
    echo "$usage" >&2
    exit 2
fi
run=$(cd "$1" && pwd -P)
cd "$(dirname "$0")/.."
PATH=$(pwd -P)/.venv/bin:$PATH
export PATH
volseg pack dense_unet --checkpoint "$run/model.pt" --card bundles/_base/cards/phantom.json --output bundles/phantom --overwrite
