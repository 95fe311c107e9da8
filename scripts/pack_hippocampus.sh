#!/bin/sh
# Packs the hippocampus network that comes with volseg: bundles/hippocampus from a training, its page and its Dice.
set -eu

usage="usage: sh scripts/pack_hippocampus.sh RUN CROSSVAL
  RUN         folder of the training on all cases: \`volseg train dense_unet --fold all ...\`
  CROSSVAL    folder of the finished \`volseg crossval dense_unet ...\` with the same settings, for the table of its page"

case ${1-} in
    -h | --help)
        echo "$usage"
        exit 0
        ;;
esac
if [ $# -ne 2 ]; then
    echo "$usage" >&2
    exit 2
fi
run=$(cd "$1" && pwd -P)
crossval=$(cd "$2" && pwd -P)
cd "$(dirname "$0")/.."
PATH=$(pwd -P)/.venv/bin:$PATH
export PATH
volseg pack dense_unet --checkpoint "$run/model.pt" --card bundles/_base/cards/hippocampus.json --crossval "$crossval" \
    --output bundles/hippocampus --overwrite
