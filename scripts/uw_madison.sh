#!/bin/sh
# The UW-Madison GI tract data from a Kaggle token, or the unpacked folder, to a table per organ that no patient leaks into.
set -eu

usage="usage: sh scripts/uw_madison.sh OUT [options] [-- options of volseg crossval]
  OUT       gets raw/ (where it is fetched), cohort/, plan/, crossval/, and the submissions
options
  --raw FOLDER       the data, unpacked: train/ and train.csv; fetched from Kaggle into OUT/raw by default
  --phantom          the synthetic phantom in the same layout instead, to try everything
  --networks A,B     bundles to train; all of bundles/ by default
  --minutes M        of training per fold and network; 60 by default
  --folds N,N        only these of the five folds
  --days BUNDLE      measure too what earlier days of a patient are worth: two more trainings per fold, and adaptations
  --dry              say the steps, the minutes and the disk, and stop
an example: sh scripts/uw_madison.sh data/uw --raw data/uw-madison --minutes 120 -- --devices cuda:0,cuda:1
The same command goes on after a stop. Fetching needs a token of Kaggle and the rules of the competition accepted:
https://www.kaggle.com/competitions/uw-madison-gi-tract-image-segmentation/rules"

refuse() {
    echo "uw_madison.sh: $1" >&2
    echo "sh scripts/uw_madison.sh --help shows the options" >&2
    exit 2
}

case ${1-} in
    -h | --help)
        echo "$usage"
        exit 0
        ;;
    '') refuse "OUT is needed" ;;
    -*) refuse "OUT comes first, before $1" ;;
esac
out=$1
shift
raw='' phantom='' networks='' minutes=60 folds='' days='' dry=''
while [ $# -gt 0 ]; do
    option=$1
    shift
    case $option in
        -h | --help)
            echo "$usage"
            exit 0
            ;;
        --raw | --networks | --minutes | --folds | --days)
            [ $# -gt 0 ] && [ "$1" != -- ] || refuse "$option needs a value"
            case $option in
                --raw) raw=$1 ;;
                --networks) networks=$1 ;;
                --minutes) minutes=$1 ;;
                --folds) folds=$1 ;;
                --days) days=$1 ;;
            esac
            shift
            ;;
        --phantom) phantom=yes ;;
        --dry) dry=yes ;;
        --) break ;;
        *) refuse "$option was not understood; options of volseg crossval go behind --" ;;
    esac
done
case $minutes in
    '' | *[!0-9.]* | *.*.* | .) refuse "--minutes $minutes was given, expected a number such as 60" ;;
esac
case $folds in
    *[!0-9,]*) refuse "--folds $folds was given, expected numbers such as 0,1" ;;
esac
[ -z "$phantom" ] || [ -z "$raw" ] || refuse "--phantom makes its own data, and --raw names some"
[ -z "$raw" ] || [ -d "$raw" ] || refuse "there is no folder $raw"

here=$(cd "$(dirname "$0")/.." && pwd -P)
. "$here/scripts/steps.sh"

has() { # whether volseg has a command of this name
    volseg "$1" --help >/dev/null 2>&1
}
csv_of() { # the train.csv of the raw folder, which may lie in a folder inside it
    for file in "$1/train.csv" "$1"/*/train.csv; do
        if [ -f "$file" ]; then
            echo "$file"
            return
        fi
    done
}

if [ -z "$networks" ]; then
    for file in "$here"/bundles/[a-z]*/train.json; do
        networks=$networks${networks:+,}$(basename "$(dirname "$file")")
    done
fi
# One bundle per line: names may hold spaces.
newline='
'
count=0 paths='' spaces=$IFS
IFS=$newline
set -f
for name in $(echo "$networks" | tr ',' '\n'); do
    count=$((count + 1))
    if [ ! -f "$name/train.json" ] && [ ! -f "bundles/$name/train.json" ]; then
        [ -f "$here/bundles/$name/train.json" ] || refuse "there is no bundle $name"
        name=$here/bundles/$name
    fi
    paths=$paths$name$newline
done
set +f
IFS=$spaces
number=5
[ -z "$folds" ] || number=$(echo "$folds" | tr ',' '\n' | sort -u | grep -c .)

fetched=
if [ -z "$raw" ]; then
    raw=$out/raw
    fetched=yes
fi
cohort=$out/cohort plan=$out/plan/plan.json crossval=$out/crossval

echo "steps: ${fetched:+fetch, }convert, check, plan, cross-validation of $networks, report, submission"
awk -v jobs=$((count * number)) -v minutes="$minutes" 'BEGIN {
    printf "time: %d trainings of %g minutes, %.1f hours one after the other; less side by side\n", jobs, minutes,
        jobs * minutes / 60
}'
if [ -n "$phantom" ]; then
    echo "disk: below 1 GB for the phantom and its networks"
else
    echo "disk: about 2.5 GB for the archive, as much unpacked, 4 GB for the cohort, up to 18 GiB for the cache of"
    echo "  preprocessed volumes where memory does not hold them, and the networks, whose size volseg crossval says"
fi
free=$(df -Pk "$(p=$out; while [ ! -d "$p" ]; do p=$(dirname "$p"); done; echo "$p")" | awk 'NR > 1 {printf "%.0f", $4 / 1048576}')
echo "free where $out lies: $free GiB"
[ -n "$phantom" ] || [ "$free" -ge 12 ] || echo "warning: that is less than the 12 GiB of raw data, cohort and networks" >&2

step=preparing

cross() { # volseg crossval of the bundles, with the words that follow
    # shellcheck disable=SC2086 # paths are split at the ends of lines alone
    (
        IFS=$newline
        set -f
        set -- $paths "$cohort" -o "$crossval" --minutes "$minutes" ${folds:+--folds} ${folds:+"$folds"} "$@"
        exec volseg crossval "$@"
    )
}
if [ -f "$plan" ]; then
    set -- "$@" --plan_file "$plan"
elif [ -n "$dry" ]; then
    echo "no plan is there yet"
fi

if [ -n "$dry" ]; then
    step=
    if [ -f "$cohort/splits.json" ]; then
        cross "$@" --dry
    elif [ -n "$fetched" ] && [ -z "$phantom" ] && [ -z "$(csv_of "$raw")" ]; then
        echo "$raw holds no data yet: volseg fetch would ask Kaggle for them"
    else
        echo "$cohort is not converted yet; then --dry lists the trainings"
    fi
    echo "nothing was done"
    exit 0
fi

mkdir -p "$out"
if [ -z "$(csv_of "$raw")" ]; then
    [ -n "$fetched" ] || refuse "$raw holds no train.csv; name the folder that holds train and train.csv"
    if [ -n "$phantom" ]; then
        all_or_stop volseg phantom "$raw"
    else
        all_or_stop volseg fetch uw-madison "$raw"
    fi
fi
run volseg convert uw_madison "$raw" "$cohort"
run volseg check "$cohort"

if [ -f "$plan" ]; then
    echo "the plan $plan is kept"
elif has plan; then
    announce volseg plan "$cohort"
    # shellcheck disable=SC2086 # as above
    (
        IFS=$newline
        set -f
        set -- "$cohort"
        for path in $paths; do
            set -- "$@" --bundle "$path"
        done
        exec volseg plan "$@" --minutes "$minutes" -o "$(dirname "$plan")"
    )
    set -- "$@" --plan_file "$plan"
else
    echo "volseg plan is not there: the bundles' own settings are taken"
fi

announce "volseg crossval$(echo "$paths" | sed 's/^/ /' | tr -d '\n') $cohort -o $crossval --minutes $minutes $*"
cases_may_fail "volseg crossval" cross "$@"
[ -f "$crossval/summary.json" ] || exit 1
predictions=$crossval/$(sed -n 's/^ "predictions": "\(.*\)",$/\1/p' "$crossval/summary.json")

if [ -n "$days" ]; then
    run volseg days "$cohort" --bundle "$days" --minutes "$minutes" ${folds:+--folds} ${folds:+"$folds"} -o "$out/days"
fi

# Each scan of train.csv with the prediction of the network that has not seen it: scored as the competition scores.
train_csv=$(csv_of "$raw")
run volseg export kaggle "$predictions" "$cohort" --test-csv "$train_csv" --empty-missing -o "$out/submission_out_of_fold.csv"

# The scans of the competition's test are hidden; where someone has some, the ensemble predicts them.
submission=
for wanted in "$(dirname "$train_csv")/test.csv" "$(dirname "$train_csv")/sample_submission.csv"; do
    if [ -z "$submission" ] && [ -f "$wanted" ] && [ "$(grep -c . "$wanted")" -gt 1 ]; then
        for image in "$cohort"/imagesTs/*_0000.nii.gz; do
            [ -z "$submission" ] && [ -f "$image" ] || continue
            submission=$out/submission.csv
            run volseg predict "$crossval/ensemble" "$cohort/imagesTs" -o "$out/test"
            run volseg export kaggle "$out/test" "$cohort" --test-csv "$wanted" -o "$submission"
        done
    fi
done
[ -n "$submission" ] || echo "no test scans with ids in test.csv are there: submission.csv is not written"
step=

printf '\nDone. Look at these:\n'
echo "  $crossval/report.html   (each case out of fold, per organ, with intervals by patient)"
[ ! -f "$crossval/comparison/comparison.md" ] || echo "  $crossval/comparison/comparison.md   (the networks beside each other)"
echo "  $crossval/ensemble   (volseg predict $crossval/ensemble INPUT -o OUT)"
echo "  $out/submission_out_of_fold.csv"
[ -z "$submission" ] || echo "  $submission"
if [ -n "$failed" ]; then
    echo "uw_madison.sh: something failed in: $failed; each is named above, and the same command tries it again" >&2
    exit 1
fi
