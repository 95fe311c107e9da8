#!/bin/sh
# Benchmarks: installs what they need, runs one or all, writes data/benchmarks/NAME.json, renders docs/benchmarks/index.md.
set -eu

usage="usage: sh benchmarks/run.sh NAME|all [--quick] [options of the benchmark]
       sh benchmarks/run.sh render
       sh benchmarks/run.sh NAME --options
  conversion   UW-Madison slices to volumes: volseg convert, the usual script, the bound
  training     seconds per step and waiting for data: volseg, MONAI's plain recipe, nnU-Net       (hippocampus)
  accuracy     the same minutes of training for all; --minutes 20 40                             (hippocampus)
  inference    file in, file out: volseg, MONAI's inferer, nnU-Net's predictor
  metrics      Dice, HD95, surface Dice: volseg, MONAI, surface-distance, scipy
  startup      volseg --help and imports
  first_second volseg predict of one small volume, and of words that cannot work; --before TREE
  any_size     memory of volseg predict by size and regions, within --memory; --before TREE
  growth       convert, predict, evaluate by number and size of cases
  loading      a random crop for training: volseg, MONAI's data sets
  fleet        what a case costs that does nothing, and resuming
  engines      volseg predict by PyTorch and OpenVINO, with trained networks: BUNDLE=CHECKPOINT ... (hippocampus)
  convolutions a training step of the networks on one core: volseg's way, torch's own
  lanes        a training step on all cores: windows side by side, torch's own way
  all          each of these, one after another
  render       copies results to docs/benchmarks and writes docs/benchmarks/index.md from them
  --quick      a trial of seconds to minutes; its results are not rendered
  --options    the options of one benchmark
  RAW=FOLDER   in the environment: where Task04_Hippocampus lies; data/Task04_Hippocampus by default
  PEERS=no     in the environment: install no peers; what needs one is left out
Other benchmarks, each with its own --help: hippocampus.sh, networks.sh, images.sh, quality.py, step.py, precision.py, crop_first.py in the same folder.
The peers get environments of their own, data/peers/NAME; they are no dependencies of volseg. OpenVINO goes into .venv."

case ${1-} in
    -h | --help)
        echo "$usage"
        exit 0
        ;;
    "")
        echo "$usage" >&2
        exit 2
        ;;
esac
name=$1
shift
names="conversion startup metrics loading fleet convolutions lanes engines inference growth training accuracy"
named="first_second any_size" # which need to be told with what; not part of all
case " $names $named all render " in
    *" $name "*) ;;
    *)
        echo "run.sh: there is no benchmark '$name'; there are: $names $named, all, render" >&2
        exit 2
        ;;
esac
raw=${RAW:-}
if [ -n "$raw" ] && [ -d "$raw" ]; then
    raw=$(cd "$raw" && pwd -P)
    export RAW="$raw"
fi
cd "$(dirname "$0")/.."
here=benchmarks
if [ "${1-}" = --options ]; then
    set -- --help
else
    sh scripts/install.sh
fi
PATH=$(pwd -P)/.venv/bin:$PATH
export PATH

# See benchmarks/hippocampus.sh.
export OMP_WAIT_POLICY=passive
export MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 MALLOC_ARENA_MAX=1

peer() { # an environment data/peers/$1 with the packages of peers/$1.txt, made once
    place=data/peers/$1
    packages=$here/peers/$1.txt
    if [ "${PEERS:-}" = no ] || cmp -s "$packages" "$place/packages.txt"; then
        return 0
    fi
    echo "installing $1 into $place"
    .venv/bin/python -m venv --clear "$place"
    "$place/bin/python" -m pip install -q --disable-pip-version-check -r "$packages"
    cp "$packages" "$place/packages.txt"
}

engine() { # OpenVINO, which volseg predicts with where it is there
    if [ "${PEERS:-}" != no ] && ! .venv/bin/python -c "import openvino" 2>/dev/null; then
        echo "installing openvino into .venv"
        .venv/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt openvino
    fi
}

cohort() { # data/hippocampus, from the decathlon's folder
    if [ ! -f data/hippocampus/splits.json ]; then
        raw=${raw:-data/Task04_Hippocampus}
        if [ ! -f "$raw/dataset.json" ]; then
            echo "run.sh: $raw has no dataset.json." >&2
            echo "Get Task04_Hippocampus from medicaldecathlon.com, unpack it, and name its folder: RAW=FOLDER sh $here/run.sh $name" >&2
            return 2
        fi
        volseg convert decathlon "$raw" data/hippocampus
        volseg split data/hippocampus --folds 5
    fi
}

one() { # the benchmark $1 with the options that follow
    script=$1
    shift
    VOLSEG_BENCHMARK="sh $here/run.sh $script"
    for word; do
        case $word in
            *[!A-Za-z0-9_./=:,+@%-]* | '') VOLSEG_BENCHMARK="$VOLSEG_BENCHMARK '$word'" ;;
            *) VOLSEG_BENCHMARK="$VOLSEG_BENCHMARK $word" ;;
        esac
    done
    export VOLSEG_BENCHMARK
    case $* in
        *--help*) ;;
        *)
            case $script in
                conversion) peer usual ;;
                startup) peer nnunet ;;
                inference)
                    engine
                    peer nnunet
                    ;;
                metrics) peer metrics ;;
                engines)
                    engine
                    cohort
                    ;;
                training | accuracy)
                    cohort
                    peer nnunet
                    ;;
            esac
            printf '\n$ %s\n' "$VOLSEG_BENCHMARK"
            ;;
    esac
    python "$here/$script.py" "$@"
}

case $name in
    render) PYTHONPATH=$here python -m harness.rendering "$@" ;;
    all)
        failed=
        for each in $names; do
            # A shell of its own, so that one that fails stops neither the others nor the summary.
            sh "$here/run.sh" "$each" "$@" || failed="$failed $each"
        done
        if [ -n "$failed" ]; then
            echo "run.sh: failed:$failed" >&2
            exit 1
        fi
        ;;
    *) one "$name" "$@" ;;
esac
