#!/bin/sh
# Raw data through a trained network: convert, predict, evaluate where there are labels, export, and say what to look at.
set -eu

usage="usage: sh scripts/cohort_inference.sh RAW BUNDLE OUT [options] [-- options of volseg predict]
  RAW      what was recorded: UW-Madison slices, a Decathlon or nnU-Net raw folder, a tree of DICOM, or NIfTI files
  BUNDLE   name in bundles/, or folder
  OUT      gets cohort/, predictions/, report/ (where there are labels), quality/ (from five cases on), and what is exported
options
  --kind KIND           uw_madison, decathlon, dicom or nifti; found out by default
  --part PART           of the cohort: all, or training or validation of --fold; all by default
  --fold N              of --part training or validation; 0 by default
  --modality MODALITY   of DICOM: only CT, MR, PT series
  --labels RULES        of DICOM: NAME or PATTERN=NAME,...: the drawings to evaluate with
  --secret-file FILE    of DICOM: its text keys the words for patients
  --no-evaluate         leave the evaluation out
  --no-slicer           write no .seg.nrrd
  --dicom-seg           write DICOM Segmentations (of DICOM)
  --rtstruct            write RT Structure Sets (of DICOM)
  --kaggle TEST_CSV     write submission.csv (of UW-Madison slices)
an example: sh scripts/cohort_inference.sh data/dicom swinunetr data/out --dicom-seg -- --checkpoint model.pt --workers 2
The same command goes on after a stop. Exit code 1: some cases failed, each named, while the others went on."

refuse() {
    echo "cohort_inference.sh: $1" >&2
    echo "sh scripts/cohort_inference.sh --help shows the options" >&2
    exit 2
}

case ${1-} in
    -h | --help)
        echo "$usage"
        exit 0
        ;;
esac
[ $# -ge 3 ] || refuse "RAW, BUNDLE and OUT are needed, $# words were given"
raw=$1 bundle=$2 out=$3
shift 3
for word in "$raw" "$bundle" "$out"; do
    case $word in
        -*) refuse "RAW, BUNDLE and OUT come first, before $word" ;;
    esac
done

kind='' part=all fold='' modality='' labels='' secret='' evaluate=yes slicer=yes dicom_seg='' rtstruct='' kaggle=''
while [ $# -gt 0 ]; do
    option=$1
    shift
    case $option in
        -h | --help)
            echo "$usage"
            exit 0
            ;;
        --kind | --part | --fold | --modality | --labels | --secret-file | --kaggle)
            [ $# -gt 0 ] && [ "$1" != -- ] || refuse "$option needs a value"
            case $option in
                --kind) kind=$1 ;;
                --part) part=$1 ;;
                --fold) fold=$1 ;;
                --modality) modality=$1 ;;
                --labels) labels=$1 ;;
                --secret-file) secret=$1 ;;
                --kaggle) kaggle=$1 ;;
            esac
            shift
            ;;
        --no-evaluate) evaluate='' ;;
        --no-slicer) slicer='' ;;
        --dicom-seg) dicom_seg=yes ;;
        --rtstruct) rtstruct=yes ;;
        --) break ;;
        *) refuse "$option was not understood; options of volseg predict go behind --" ;;
    esac
done

[ -d "$raw" ] || refuse "there is no folder $raw"
here=$(cd "$(dirname "$0")/.." && pwd -P)
if [ ! -d "$bundle" ] && [ ! -d "bundles/$bundle" ]; then
    [ -d "$here/bundles/$bundle" ] || refuse "there is no bundle $bundle"
    bundle=$here/bundles/$bundle
fi
if [ -z "$kind" ]; then
    kind=dicom
    for file in "$raw"/*.nii "$raw"/*.nii.gz; do
        [ ! -f "$file" ] || kind=nifti
    done
    [ ! -f "$raw/dataset.json" ] || kind=decathlon
    for file in "$raw"/train.csv "$raw"/*/train.csv; do
        [ ! -f "$file" ] || kind=uw_madison
    done
    echo "$raw is taken for $kind; --kind takes it for something else"
fi
case $kind in
    uw_madison | decathlon | dicom | nifti) ;;
    *) refuse "--kind $kind was given, expected uw_madison, decathlon, dicom or nifti" ;;
esac
case $part in
    all | training | validation) ;;
    *) refuse "--part $part was given, expected all, training or validation" ;;
esac
[ -z "$fold" ] || [ "$part" != all ] || refuse "--fold says which fold --part is of; give --part training or validation too"
if [ "$kind" != dicom ] && [ -n "$modality$labels$secret$dicom_seg$rtstruct" ]; then
    refuse "--modality, --labels, --secret-file, --dicom-seg and --rtstruct are for DICOM, and $raw is taken for $kind"
fi
if [ -n "$kaggle" ]; then
    [ "$kind" = uw_madison ] || refuse "--kaggle is for UW-Madison slices, and $raw is taken for $kind"
    [ -f "$kaggle" ] || refuse "there is no file $kaggle"
fi
[ "$kind" != nifti ] || [ "$part" = all ] || refuse "--part is of a cohort, and $raw holds NIfTI files"
[ -z "$secret" ] || [ -f "$secret" ] || refuse "there is no file $secret"

. "$here/scripts/steps.sh"
step=preparing

predictions=$out/predictions cohort=$out/cohort
mkdir -p "$out"
input=$cohort
case $kind in
    nifti) input=$raw ;;
    dicom)
        run volseg convert dicom "$raw" "$cohort" ${modality:+--modality "$modality"} ${labels:+--labels "$labels"} \
            ${secret:+--secret-file "$secret"}
        ;;
    *) run volseg convert "$kind" "$raw" "$cohort" ;;
esac

# What stands behind -- is left in "$@".
if [ "$kind" = nifti ]; then
    run volseg predict "$bundle" "$input" -o "$predictions" "$@"
else
    run volseg predict "$bundle" "$input" -o "$predictions" --part "$part" ${fold:+--fold "$fold"} "$@"
fi

evaluated=
if [ -n "$evaluate" ] && [ "$kind" != nifti ]; then
    for file in "$cohort"/labelsTr/*.nii.gz; do
        [ ! -f "$file" ] || evaluated=$out/report
    done
    [ "$part" != all ] || part=labelled
    if [ -n "$evaluated" ]; then
        run volseg evaluate "$predictions" "$cohort" -o "$evaluated" --part "$part" ${fold:+--fold "$fold"}
    fi
fi

[ -z "$slicer" ] || run volseg export slicer "$predictions" -o "$out/slicer"
if [ -n "$dicom_seg" ]; then
    run volseg export dicom-seg "$predictions" --dicom "$raw" -o "$out/dicom" ${secret:+--secret-file "$secret"}
fi
if [ -n "$rtstruct" ]; then
    run volseg export rtstruct "$predictions" --dicom "$raw" -o "$out/dicom" ${secret:+--secret-file "$secret"}
fi
if [ -n "$kaggle" ]; then
    run volseg export kaggle "$predictions" "$cohort" --test-csv "$kaggle" -o "$out/submission.csv"
fi

# Five predictions say what is usual among them.
count=0 quality=
for file in "$predictions"/*.nii.gz; do
    [ ! -f "$file" ] || count=$((count + 1))
done
if [ "$count" -ge 5 ]; then
    quality=$out/quality
    case $kind in
        nifti) run volseg quality "$predictions" -o "$quality" ;;
        *) run volseg quality "$predictions" -o "$quality" --images "$cohort" ;;
    esac
fi
step=

printf '\nDone. Look at these:\n'
[ -z "$evaluated" ] || echo "  $evaluated/report.html   (in a browser)"
[ -z "$quality" ] || echo "  $quality/quality.md   (which predictions to look at first)"
[ -z "$slicer" ] || echo "  $out/slicer   (drop a .seg.nrrd on the window of 3D Slicer)"
[ -z "$dicom_seg$rtstruct" ] || echo "  $out/dicom   (for the archive; they carry the patient)"
[ -z "$kaggle" ] || echo "  $out/submission.csv"
echo "  $predictions/run_report.json   (what was done, how fast, with which network)"
if [ -n "$failed" ]; then
    echo "cohort_inference.sh: cases failed in: $failed; each is named above, and the same command tries them again" >&2
    exit 1
fi
