"""Quality control without a reference: the list, its order, its files, the command."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import volseg.report
from volseg.cli import main
from volseg.cohort import Cohort, write_uncertainty
from volseg.errors import UsageError
from volseg.evaluation import rank
from volseg.evaluation.outliers import measure
from volseg.labels import LabelTable
from volseg.metrics import dice
from volseg.report import write_quality
from volseg.report.quality import quality_as_csv, quality_as_markdown
from volseg.volume import Volume, read_volume, write_volume

LABELS = LabelTable.exclusive(["a", "b"])
AFFINE = np.diag([-1.5, -1.5, 3, 1])


def label_of(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    label = np.zeros((24, 24, 10), np.uint8)
    width = 8 + generator.integers(0, 3)
    label[3 : 3 + width, 4:14, 2:8] = 1
    label[15:22, 4 : 8 + generator.integers(0, 3), 3:7] = 2
    return label


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Twenty labelled cases."""
    folder = tmp_path_factory.mktemp("quality") / "cohort"
    for i in range(20):
        label = label_of(i)
        image = 100 * (label > 0) + np.random.default_rng(i).integers(0, 30, label.shape)
        write_volume(folder / f"imagesTr/c{i:02d}_0000.nii.gz", Volume(image.astype(np.int16), AFFINE))
        write_volume(folder / f"labelsTr/c{i:02d}.nii.gz", Volume(label, AFFINE))
    dataset = {"channel_names": {"0": "MR"}, "file_ending": ".nii.gz", **LABELS.to_dataset_json()}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return Cohort.open(folder)


def predict(cohort: Cohort, folder: Path) -> None:
    """Right predictions of c00 to c09, but for four."""
    for key in cohort.keys[:10]:
        label = read_volume(cohort.label_path(key)).voxels.copy()
        if key == "c01":
            label[label == 2] = 0  # an organ is absent
        if key == "c02":
            label[label == 1] = 0
            label[3:7, 4:7, 2:8] = 1  # far too small
        if key == "c03":
            label[::3, 20:24:2, ::2] = 1  # crumbs
        if key == "c04":
            label[:, :, 5][label[:, :, 5] == 1] = 0  # a slice was left out
        write_volume(folder / f"{key}.nii.gz", Volume(label, AFFINE))


def test_what_is_wrong_stands_first_and_says_why(cohort, tmp_path):
    predict(cohort, tmp_path)
    ranked = rank(tmp_path, LABELS, cohort=cohort)
    assert {quality.key for quality in ranked[:4]} == {"c01", "c02", "c03", "c04"}
    why = {quality.key: " ".join(finding.reason for finding in quality.findings) for quality in ranked}
    assert "b is empty; 100 % of the training cases have it" in why["c01"]
    assert "a is small" in why["c02"]
    assert "parts, usually 1" in why["c03"]
    assert "changes by 100 % of its area" in why["c04"]
    # Learnt from the other ten cases only: the ten predicted ones have no part in what is usual.
    overlaps = []
    for quality in ranked:
        reference = read_volume(cohort.label_path(quality.key)).voxels
        predicted = read_volume(tmp_path / f"{quality.key}.nii.gz").voxels
        overlaps.append(np.nanmean([dice(predicted == value, reference == value) for value in (1, 2)]))
    assert stats.spearmanr([quality.score for quality in ranked], overlaps).statistic < -0.5


def test_predictions_may_be_their_own_norm(cohort, tmp_path):
    predict(cohort, tmp_path)
    ranked = rank(tmp_path, LABELS)
    assert {quality.key for quality in ranked[:2]} <= {"c01", "c02", "c03", "c04"}
    assert all(("grey", "a") not in quality.values for quality in ranked)  # no image was given


def test_where_two_predictions_disagree_counts(cohort, tmp_path):
    for key in cohort.keys[:10]:
        volume = read_volume(cohort.label_path(key))
        write_volume(tmp_path / f"one/{key}.nii.gz", volume)
        far = 4 if key == "c07" else 1
        write_volume(tmp_path / f"two/{key}.nii.gz", Volume(np.roll(volume.voxels, far, axis=1), AFFINE))
    (tmp_path / "two/c09.nii.gz").unlink()
    ranked = rank(tmp_path / "one", LABELS, cohort=cohort, others=[tmp_path / "two"])
    assert ranked[0].key == "c07"
    assert "the predictions disagree" in ranked[0].findings[0].reason
    by_key = {quality.key: quality for quality in ranked}
    assert by_key["c09"].disagreement is None
    both = rank(tmp_path / "one", LABELS, cohort=cohort, others=[tmp_path / "one", tmp_path / "two"])
    assert both[0].disagreement == pytest.approx(ranked[0].disagreement / 2)  # one agrees
    same = rank(tmp_path / "one", LABELS, cohort=cohort, others=[tmp_path / "one"])
    alone = rank(tmp_path / "one", LABELS, cohort=cohort)
    assert [quality.score for quality in same] == [quality.score for quality in alone]


def test_alarms_come_first_and_then_what_the_network_is_least_sure_of(cohort, tmp_path):
    predict(cohort, tmp_path)
    calm = [key for key in cohort.keys[:10] if key not in ("c01", "c02", "c03", "c04")]
    surest_last = {key: {"a": 0.9 + place / 100, "b": None} for place, key in enumerate(calm[::-1])}
    sure = {"c04": {"a": None, "b": None}, "c01": {"a": 0.97}, "c03": {"a": 0.98}, "c02": {"a": 0.99}}
    write_uncertainty(tmp_path, {**surest_last, **sure})
    ranked = rank(tmp_path, LABELS, cohort=cohort)
    assert [quality.alarm for quality in ranked] == [True] * 4 + [False] * 6
    assert [quality.key for quality in ranked[:4]] == list(sure)
    assert [quality.key for quality in ranked[4:]] == calm[::-1]
    assert ranked[4].expected_dice == 0.9
    write_uncertainty(tmp_path, {}, forget=[calm[-1]])  # what the network did not say is not invented
    assert [quality.key for quality in rank(tmp_path, LABELS, cohort=cohort)[4:]] == [*calm[-2::-1], calm[-1]]
    (tmp_path / "uncertainty.csv").write_text("something,else\n1,2\n")
    with pytest.raises(UsageError, match="no table of uncertainties"):
        rank(tmp_path, LABELS, cohort=cohort)


def test_the_json_keeps_to_its_published_schema(cohort, tmp_path):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(volseg.report.__file__).parent / "quality.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    predict(cohort, tmp_path / "predictions")
    (tmp_path / "predictions/c05.nii.gz").write_bytes(b"no volume")
    write_uncertainty(tmp_path / "predictions", {"c06": {"a": 0.5, "b": None}})
    ranked = rank(tmp_path / "predictions", LABELS, cohort=cohort)
    _, path, _ = write_quality(ranked, tmp_path / "out", title="Test", details={"usual": "cohort"})
    content = json.loads(path.read_text())
    jsonschema.validate(content, schema)
    assert content["cases"] == {"ranked": 10, "alarms": 4, "failed": 1}
    by_key = {case["key"]: case for case in content["ranked"]}
    assert by_key["c05"]["score"] is None
    assert by_key["c06"]["expected_dice_by_region"] == {"a": 0.5, "b": None}
    lines = list(csv.DictReader((tmp_path / "out/quality.csv").read_text().splitlines()))
    assert [line["key"] for line in lines] == [case["key"] for case in content["ranked"]]
    assert [line["alarm"] for line in lines] == [""] + ["yes"] * 4 + ["no"] * 5
    assert lines[5]["expected_dice a"] == "0.5"
    content["ranked"][0]["made up"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schema)


@pytest.mark.parametrize("command", [["quality"], ["export", "slicer"]])
def test_a_folder_that_is_not_there_gets_the_hint_for_predictions(command, tmp_path, capsys):
    for folder, hint in (
        (tmp_path / "nowhere", "holds the predictions KEY.nii.gz"),
        (tmp_path, "name a cohort with --"),
    ):
        with pytest.raises(SystemExit) as left:
            main([*command, str(folder), "-o", str(tmp_path / "out")])
        assert left.value.code == 2
        told = " ".join(capsys.readouterr().err.split())
        assert hint in told
        assert "volseg convert" not in told


def test_an_image_of_another_kind_is_told(cohort, tmp_path):
    """The grey values of the predicted case are looked up in another cohort."""
    strange = tmp_path / "strange"
    for i in range(3):
        label = label_of(50 + i)
        image = 100_000 * (label == 0)
        write_volume(strange / f"imagesTs/x{i}_0000.nii.gz", Volume(image.astype(np.int32), AFFINE))
        write_volume(tmp_path / f"predictions/x{i}.nii.gz", Volume(label, AFFINE))
    dataset = {"channel_names": {"0": "MR"}, "file_ending": ".nii.gz", **LABELS.to_dataset_json()}
    (strange / "dataset.json").write_text(json.dumps(dataset))
    ranked = rank(tmp_path / "predictions", LABELS, cohort=cohort, images=Cohort.open(strange))
    why = " ".join(finding.reason for finding in ranked[0].findings)
    assert "the image's range is wider than in training" in why
    assert "lies on darker voxels than usual" in why


def test_a_case_that_cannot_be_read_stands_first(cohort, tmp_path):
    predict(cohort, tmp_path)
    (tmp_path / "c05.nii.gz").write_bytes(b"no volume")
    label = read_volume(tmp_path / "c06.nii.gz")
    write_volume(tmp_path / "c06.nii.gz", Volume(label.voxels[1:], AFFINE))
    ranked = rank(tmp_path, LABELS, cohort=cohort)
    assert [quality.key for quality in ranked[:2]] == ["c05", "c06"]
    assert "grid" in ranked[1].error
    lines = list(csv.DictReader(quality_as_csv(ranked).splitlines()))
    assert [line["key"] for line in lines] == [quality.key for quality in ranked]
    assert lines[0]["score"] == ""
    assert "cannot be read" in quality_as_markdown(ranked, title="T", details={})


def test_workers_change_nothing(cohort, tmp_path):
    predict(cohort, tmp_path)
    assert quality_as_csv(rank(tmp_path, LABELS, cohort=cohort, workers=3)) == quality_as_csv(
        rank(tmp_path, LABELS, cohort=cohort)
    )


def test_the_command(cohort, tmp_path, capsys):
    predict(cohort, tmp_path / "predictions")
    words = ["quality", str(tmp_path / "predictions"), "--cohort", str(cohort.folder), "-o", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 0
    assert "b is empty" in capsys.readouterr().out
    assert (tmp_path / "out/quality.md").read_text().startswith("# Quality control without reference")
    (tmp_path / "predictions/c05.nii.gz").write_bytes(b"no volume")
    with pytest.raises(SystemExit) as left:
        main(words)
    assert left.value.code == 1
    with pytest.raises(UsageError, match="holds no prediction"):
        rank(tmp_path, LABELS)
    write_volume(tmp_path / "few/a.nii.gz", Volume(label_of(0), AFFINE))
    with pytest.raises(UsageError, match="at least 5"):
        rank(tmp_path / "few", LABELS)


def test_cases_that_nobody_has_seen_whole_do_not_say_that_a_region_may_be_absent(tmp_path):
    """Of twelve labelled cases eight have voxels of `ignore`; the other four and two more all hold both regions."""
    labels = {"background": 0, "a": 1, "b": 2, "ignore": 3}
    folder = tmp_path / "cohort"
    for i in range(14):
        label = label_of(i)
        image = 100 * (label > 0) + np.random.default_rng(i).integers(0, 30, label.shape)
        if i < 8:
            label[:, :, 0] = 3
        write_volume(folder / f"imagesTr/c{i:02d}_0000.nii.gz", Volume(image.astype(np.int16), AFFINE))
        write_volume(folder / f"labelsTr/c{i:02d}.nii.gz", Volume(label, AFFINE))
    dataset = {"channel_names": {"0": "MR"}, "file_ending": ".nii.gz", "labels": labels}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    absent = label_of(0)
    absent[absent == 2] = 0
    write_volume(tmp_path / "predictions" / "c00.nii.gz", Volume(absent, AFFINE))
    (found,) = rank(tmp_path / "predictions", LABELS, cohort=Cohort.open(folder))
    assert found.findings[0].reason == "b is empty; 100 % of the training cases have it"
    assert found.alarm
    for i in range(9, 14):
        (folder / f"labelsTr/c{i:02d}.nii.gz").unlink()
        (folder / f"imagesTr/c{i:02d}_0000.nii.gz").unlink()
    with pytest.raises(UsageError, match=r"at least 5 cases to learn from beside those predicted, got 1;"):
        rank(tmp_path / "predictions", LABELS, cohort=Cohort.open(folder))


def test_voxels_that_are_no_numbers_leave_the_other_values_of_an_image_alone():
    image = np.arange(64, dtype=np.float32).reshape(4, 4, 4)
    mask = np.zeros((1, 4, 4, 4), bool)
    mask[0, :2] = True
    table = LabelTable.exclusive(["a"])
    image[0, 0, 0] = np.nan
    grey = measure(mask, (1, 1, 1), table, image)["grey", "a"]
    whole = np.percentile(image[np.isfinite(image)], (1, 50, 99))
    assert grey == pytest.approx((np.median(np.arange(1, 32)) - whole[1]) / (whole[2] - whole[0]))
    image[:2] = np.nan
    assert ("grey", "a") not in measure(mask, (1, 1, 1), table, image)
