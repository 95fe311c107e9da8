"""`scripts/uw_madison.sh` and the job array: their steps in order, resumed, on a folder of the real layout."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from volseg.datasets import write_phantom

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "uw_madison.sh"
SHELL = shutil.which("dash") or shutil.which("sh") or "sh"

# Stands for volseg: it writes down its words, and what the next step looks for.
FAKE = """#!/bin/sh
case "$2" in --help) case " ${FAKE_HAS-} " in *" $1 "*) exit 0 ;; esac; exit 2 ;; esac
for word in "$@"; do printf '[%s] ' "$word" >>"$FAKE_LOG"; done
echo >>"$FAKE_LOG"
if [ "$1" = "${FAKE_STOPS-}" ]; then exit 2; fi
case $1 in
    fetch) mkdir -p "$3/train" && echo "id,class,segmentation" >"$3/train.csv" ;;
    phantom) mkdir -p "$2/train" && echo "id,class,segmentation" >"$2/train.csv" ;;
    convert) mkdir -p "$4/imagesTs" && echo "[]" >"$4/splits.json" ;;
    plan)
        while [ "$1" != -o ]; do shift; done
        mkdir -p "$2" && echo "{}" >"$2/plan.json" ;;
    crossval)
        while [ "$1" != -o ]; do shift; done
        mkdir -p "$2" && printf '{\\n "predictions": "oof/a b",\\n "table": 1\\n}\\n' >"$2/summary.json" ;;
esac
if [ "$1" = "${FAKE_FAILS-}" ]; then exit 1; fi
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "volseg"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    (tmp_path / "my bundle").mkdir()
    (tmp_path / "my bundle" / "train.json").write_text("{}")
    return tmp_path


def sh(place, *words, script=SCRIPT, path=None, **environment):
    """Exit code, what was printed, and the words of each call of volseg."""
    log = place / "log"
    log.write_text("")
    path = path or f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [SHELL, script, *words],
        cwd=place,
        env={**os.environ, "PATH": path, "FAKE_LOG": str(log), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, [line[1:-2].split("] [") for line in log.read_text().splitlines()]


def test_the_steps_in_their_order_from_a_token(place):
    code, text, calls = sh(place, "out", "--networks", "unet", "--", "--workers", "2")
    assert code == 0, text
    unet = str(ROOT / "bundles" / "unet")
    assert calls == [
        ["fetch", "uw-madison", "out/raw"],
        ["convert", "uw_madison", "out/raw", "out/cohort"],
        ["check", "out/cohort"],
        ["crossval", unet, "out/cohort", "-o", "out/crossval", "--minutes", "60", "--workers", "2"],
        [
            *("export", "kaggle", "out/crossval/oof/a b", "out/cohort", "--test-csv", "out/raw/train.csv"),
            *("--empty-missing", "-o", "out/submission_out_of_fold.csv"),
        ],
    ]
    assert "5 trainings of 60 minutes, 5.0 hours one after the other" in text
    assert "volseg plan is not there" in text
    assert "submission.csv is not written" in text
    code, _, again = sh(place, "out", "--networks", "unet", "--", "--workers", "2")
    assert (code, again) == (0, calls[1:])  # what is there is not fetched again


def test_all_bundles_plan_days_and_test_scans_where_they_are_there(place):
    raw = place / "my raw" / "uw"
    (raw / "train").mkdir(parents=True)
    (raw / "train.csv").write_text("id,class,segmentation\n")
    (raw / "test.csv").write_text("id,class\n")
    (raw / "sample_submission.csv").write_text("id,class,predicted\ncase9_day0_slice_0001,stomach,\n")
    (place / "out/cohort/imagesTs").mkdir(parents=True)
    (place / "out/cohort/imagesTs/case9_day0_0000.nii.gz").write_text("")
    words = ("out", "--raw", "my raw", "--minutes", "1.5", "--folds", "0,1", "--days", "unet")
    code, text, calls = sh(place, *words, FAKE_HAS="plan")
    assert code == 0, text
    names = sorted(path.parent.name for path in (ROOT / "bundles").glob("[a-z]*/train.json"))
    each = [word for name in names for word in ("--bundle", str(ROOT / "bundles" / name))]
    plan = ["plan", "out/cohort", *each, "--minutes", "1.5", "-o", "out/plan"]
    cross = [
        *("crossval", *(str(ROOT / "bundles" / name) for name in names), "out/cohort", "-o", "out/crossval"),
        *("--minutes", "1.5", "--folds", "0,1", "--plan_file", "out/plan/plan.json"),
    ]
    days = ["days", "out/cohort", "--bundle", "unet", "--minutes", "1.5", "--folds", "0,1", "-o", "out/days"]
    assert calls[2:5] == [plan, cross, days]
    assert calls[5][4:6] == ["--test-csv", "my raw/uw/train.csv"]
    assert calls[6] == ["predict", "out/crossval/ensemble", "out/cohort/imagesTs", "-o", "out/test"]
    assert calls[7][4:] == ["--test-csv", "my raw/uw/sample_submission.csv", "-o", "out/submission.csv"]
    assert f"{2 * len(names)} trainings" in text
    _, text, again = sh(place, *words, FAKE_HAS="plan")
    assert plan not in again  # a plan is kept: the trainings are of it
    assert cross in again


@pytest.mark.parametrize(("stops", "step"), [("fetch", "volseg fetch"), ("crossval", "volseg crossval")])
def test_a_step_that_stops_is_named(place, stops, step):
    code, text, _ = sh(place, "out", "--networks", "my bundle", FAKE_STOPS=stops)
    assert code == 2
    assert f"uw_madison.sh: stopped at: {step}" in text
    code, text, calls = sh(place, "out", "--networks", "my bundle")
    assert code == 0
    assert ["crossval", "my", "bundle"] not in [call[:3] for call in calls]
    code, text, _ = sh(place, "out", "--networks", "my bundle", FAKE_FAILS="check")
    assert code == 1
    assert "something failed in: volseg check" in text


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "OUT is needed"),
        (("--dry",), "OUT comes first, before --dry"),
        (("out", "--minutes"), "--minutes needs a value"),
        (("out", "--minutes", "ten"), "--minutes ten was given, expected a number"),
        (("out", "--folds", "a"), "--folds a was given"),
        (("out", "--raw", "nowhere"), "there is no folder nowhere"),
        (("out", "--raw", "bin"), "bin holds no train.csv"),
        (("out", "--raw", "bin", "--phantom"), "--phantom makes its own data"),
        (("out", "--networks", "nothing"), "there is no bundle nothing"),
        (("out", "--workers", "2"), "options of volseg crossval go behind --"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_done(words, reason, place):
    code, text, calls = sh(place, *words)
    assert code == 2
    assert reason in text
    assert calls == []


def test_dry_does_nothing(place):
    code, text, calls = sh(place, "out", "--dry", "--minutes", "20", "--networks", "unet,my bundle")
    assert (code, calls) == (0, [])
    assert "10 trainings of 20 minutes, 3.3 hours" in text
    assert "volseg fetch would ask Kaggle" in text
    assert not (place / "out").exists()
    sh(place, "out", "--networks", "unet")
    code, _, calls = sh(place, "out", "--dry", "--networks", "unet")
    assert code == 0
    assert [call[0] for call in calls] == ["crossval"]
    assert calls[0][-1] == "--dry"


@pytest.mark.slow
def test_a_folder_of_the_real_layout_goes_through(tmp_path, warm_commands):
    """Train for an instant, with real commands: the table, the submission of each slice, and the test scans."""
    from tiny_bundle import write_bundle

    write_bundle(tmp_path / "a bundle")
    raw = tmp_path / "raw"
    write_phantom(raw, patients=3, days=1)
    moved = sorted((raw / "train").iterdir())[-1]
    (raw / "test").mkdir()
    moved.rename(raw / "test" / moved.name)
    lines = (raw / "train.csv").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(f"{moved.name}_")]
    (raw / "train.csv").write_text("".join(kept))
    wanted = [line.split(",")[:2] for line in lines[1:] if line.startswith(f"{moved.name}_")]
    (raw / "test.csv").write_text("id,class\n" + "".join(f"{one},{name}\n" for one, name in wanted))
    words = ("out", "--raw", "raw", "--networks", "a bundle", "--minutes", "0.01", "--folds", "0,1")
    more = ("--", "--val_interval", "1", "--crops_per_case", "1", "--device", "cpu")
    code, text, _ = sh(tmp_path, *words, *more, path=warm_commands.path, OMP_NUM_THREADS="1")
    assert code == 0, text
    assert (tmp_path / "out/crossval/report.html").is_file()
    found = (tmp_path / "out/submission_out_of_fold.csv").read_text().splitlines()
    assert len(found) == len(kept)
    assert len((tmp_path / "out/submission.csv").read_text().splitlines()) == len(wanted) + 1


def test_a_job_array_deals_the_folds(place):
    script = ROOT / "scripts" / "slurm_crossval.sh"
    words = ("one", "a cohort", "-o", "cv", "--minutes", "5", "--max_epochs", "3")
    for number, first, step, expected in ((0, 0, 1, "0/4"), (14, 8, 2, "3/4")):
        names = {"ID": number, "MIN": first, "STEP": step, "COUNT": 4}
        task = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}
        code, text, calls = sh(place, *words, script=script, **task)
        assert code == 0, text
        assert calls == [["crossval", "--shard", expected, *words]]
    assert sh(place, *words, script=script)[2][0][:3] == ["crossval", "--shard", "0/1"]
    assert sh(place, "one", "cohort", script=script)[0] == 2
