"""Each mistake on the command line costs one line that says what to type."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from command import told

from volseg.cli import main


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("convrt", "volseg has no command convrt; did you mean convert?"),
        ("frobnicate", "volseg has no command frobnicate; `volseg --help` lists them"),
        ("export slicr x", "export has no command slicr; did you mean slicer?"),
        ("--verson", "volseg has no option --verson; did you mean --version?"),
        ("split x --fold 3", "split has no option --fold; did you mean --folds?"),
        ("check x --zzz", "check has no option --zzz; `volseg check --help` lists them"),
        ("export kaggle a b --test_csv c", "export kaggle has no option --test_csv; did you mean --test-csv?"),
        ("split", "COHORT is missing; for example: volseg split data/cohort --folds 5 --seed 1"),
        ("predict a b", "--output is missing; for example: volseg predict swinunetr data/cohort --part"),
        ("watch a b", "BUNDLE is missing; for example: volseg watch"),
        ("split x --folds 1", "--folds must be at least 2, got 1; see `volseg split --help`"),
        ("split x --folds=z", "--folds must be a whole number, got z; see"),
        ("evaluate a b -o c --tolerance-mm near", "--tolerance-mm must be a number, got near; see `volseg evaluate"),
        ("demo a --port 99999", "--port must be at most 65535, got 99999"),
        ("picture a b -o c --plane ax", "--plane must be axial, coronal or sagittal, got ax; see `volseg picture"),
        (
            "convert images a b --colour blue",
            "--colour must be auto, rgb or grey, got blue; see `volseg convert images",
        ),
        ("convert decathlon a b --workers", "--workers needs a value"),
        ("convert dicom a b --keep-ids=3", "--keep-ids takes no value"),
        ("split x y z", "y z is more than was expected; for example: volseg split"),
        (
            "predict unet empty file.txt unet.zip -o c",
            "file.txt unet.zip is more than was expected; for example: volseg predict swinunetr data/cohort --part "
            "validation -o data/predictions; name one file, or the folder",
        ),
        (
            "predict unet empty file.txt empty unet.zip -o c",
            "file.txt, with 2 others, is more than was expected; for example: volseg predict",
        ),
        ("convert decathlon a b --shard 3", "--shard must be I/N with I from 0 to N - 1, as 0/8, got 3"),
        ("convert decathlon a b --workers 0", "--workers must be at least 1 without --ray, got 0"),
        ("compare empty file.txt -o c", "PREDICTIONS must be two folders or more, after the cohort, got 1"),
        ("compare a b -o c", "there is no folder a; name training runs, or a cohort and predictions"),
        ("adapt empty a --patient p", "empty must be the folder of a training, which holds model.pt, got one without"),
        ("train unet --corection a", "--corection is no setting of this bundle; did you mean --corrections?"),
        ("export safetensors a.pt -o a.safetensors", "there is no checkpoint a.pt; name the model.pt of a training"),
        ("train a.zip", "there is no file a.zip"),
        ("train unet.zip", "unet.zip is a zip; unpack it, and name the folder"),
        ("train unet --config_file nowhere.json", "there is no file nowhere.json"),
        ("quality s3://a/b -o c", "volseg quality takes folders; `volseg check URL`"),
        (
            "export rtstruct nowhere --dicom x -o y",
            "there is no nowhere; name a prediction KEY.nii.gz, or the folder of the predictions",
        ),
        ("check file.txt", "file.txt is a file; name the folder of a cohort"),
        ("check empty", "empty has no dataset.json, so it is no cohort (nnU-Net raw folder); make one with"),
    ],
)
def test_a_mistake_costs_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, line: str
) -> None:
    (tmp_path / "file.txt").touch()
    (tmp_path / "unet.zip").touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    code, text = told(capsys, *words.split())
    assert code == 2
    assert text.startswith(f"volseg: {line}")
    assert text.count("\n") == 1


def test_a_file_where_a_folder_is_needed_is_no_reason_to_go_on(
    capsys: pytest.CaptureFixture[str], tiny_cohort: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").touch()
    code, text = told(capsys, "evaluate", tiny_cohort / "labelsTr", tiny_cohort, "-o", tmp_path / "out", "--no-html")
    assert code == 2
    assert "out must be a folder, got a file; name another folder" in text


def test_a_title_may_hold_a_url(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for title in (("--title", "see https://example.org"), ("--title=see https://example.org",)):
        text = told(capsys, "quality", tmp_path / "nowhere", "-o", tmp_path / "out", *title)[1]
        assert "nowhere is no folder" in text


@pytest.mark.parametrize("stop", [KeyboardInterrupt, typer.Abort])
def test_a_stop_says_that_one_can_go_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, stop: type[BaseException], tmp_path: Path
) -> None:
    def end(*_: object) -> None:
        raise stop

    monkeypatch.setattr("volseg.cohort.Cohort.open", end)
    assert told(capsys, "check", tmp_path) == (130, "volseg: stopped; run again to go on\n")


def test_no_words_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ((), ("export",), ("convert",)):
        code, text = told(capsys, *words)
        assert code == 2
        assert "Usage" in text
        assert "volseg:" not in text


def test_debug_shows_where_words_were_refused() -> None:
    with pytest.raises(Exception, match="No such option"):
        main(["check", "x", "--zzz", "--debug"])


def test_options_of_within_alone_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bundle = Path(__file__).parents[2] / "bundles" / "unet"
    for words in (("--margin-mm", "5"), ("--outside", "erase"), ("--keep-margin",), ("--absent", "empty")):
        code, text = told(capsys, "predict", bundle, tmp_path, "-o", tmp_path / "out", *words)
        assert code == 2
        assert "need --within" in text
