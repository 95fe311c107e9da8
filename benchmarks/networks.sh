#!/bin/sh
# Every network with the same recipe and the same time on the hippocampus volumes, as one table and one figure.
set -eu

usage="usage: sh benchmarks/networks.sh [RAW] [options]
  RAW                the folder Task04_Hippocampus; data/Task04_Hippocampus by default
  --minutes N        training time of each network, 20 by default
  --networks A,B     some of the networks, such as unet,swinunetr
  --sensitivity NET  instead: learning rate, batch size and window of one network, 3 minutes each by default
  writes data/benchmarks/networks; what is finished there is not done again, so the command can be repeated"

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
    echo "networks.sh: $raw has no dataset.json." >&2
    echo "Get Task04_Hippocampus from medicaldecathlon.com, unpack it, and name its folder." >&2
    exit 2
fi
sh scripts/install.sh

# See benchmarks/hippocampus.sh.
export OMP_WAIT_POLICY=passive
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_ARENA_MAX=1
PATH=$(pwd -P)/.venv/bin:$PATH
export PATH

volseg convert decathlon "$raw" data/hippocampus
volseg split data/hippocampus --folds 5
python benchmarks/networks.py data/hippocampus data/benchmarks/networks "$@"
