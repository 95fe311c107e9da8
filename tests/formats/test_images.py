"""Folders of images with masks become cohorts of one-slice volumes: pairing, masks, objects, folds, refusals."""

from __future__ import annotations

import csv
import json
import tracemalloc
from pathlib import PurePosixPath

import numpy as np
import pytest
from image_files import colours, save
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from volseg.cli import app
from volseg.cohort import Cohort, inspect_cohort, write_cohort
from volseg.errors import LabelError, SourceError, UsageError, VolumeError
from volseg.formats import Images, image_pairs
from volseg.formats.image_masks import Classes
from volseg.formats.image_pattern import Pattern
from volseg.volume import orientation, read_volume, to_raster

GREY = colours()[..., 0]
ASSUMED = (
    "directions assumed: columns to the patient's left, rows to the back, third axis to the head (--axes states others)"
)


def square(first, last, shape=(24, 40), value=255):
    mask = np.zeros(shape, np.uint8)
    mask[first:last, first:last] = value
    return mask


@pytest.fixture
def raw(tmp_path):
    """Three grey images a, b, c with a binary mask each."""
    for number, name in enumerate("abc"):
        save(tmp_path / "raw" / "images" / f"{name}.png", colours(seed=number)[..., 0])
        save(tmp_path / "raw" / "masks" / f"{name}_mask.png", square(2, 6 + number))
    return tmp_path / "raw"


def paired(raw, **options):
    return Images(raw, images="images/{key}.png", **{"masks": ["masks/{key}_mask.png"], **options})


def test_image_and_mask_come_back_as_the_raster_they_were(raw):
    source = paired(raw)
    assert source.keys() == ["a", "b", "c"]
    assert source.channel_names == ("grey",)
    assert source.labels.names == ("foreground",)
    case = source.load("b")
    assert case.channels[0].shape == (40, 24, 1)  # columns, rows
    assert np.array_equal(to_raster(case.channels[0]), colours(seed=1)[..., 0])
    assert np.array_equal(to_raster(case.label), square(2, 7) > 0)
    assert case.warnings == ("spacing unknown, taken as 1 mm", ASSUMED)
    assert case.instances is None


def test_axes_are_an_option_and_an_assumption_without_it(raw, tmp_path):
    plain, stated = paired(raw, spacing_mm=[2.0]), paired(raw, spacing_mm=[2.0], axes="LIP")
    case = stated.load("a")
    assert case.warnings == ()
    for volume in (*case.channels, case.label):
        assert orientation(volume.affine_ras) == "LIP"
        assert volume.spacing_mm == (2.0, 2.0, 1.0)
    assert np.array_equal(to_raster(case.channels[0], axes="LIP"), to_raster(plain.load("a").channels[0]))
    with pytest.raises(VolumeError, match="axes LIP was given, expected one slice of LPS axes"):
        to_raster(case.channels[0])
    digests = {source.digest("a") for source in (plain, stated, paired(raw, spacing_mm=[2.0], axes="LPS"))}
    assert len(digests) == 3
    assert paired(raw, axes="LPS").load("a").channels[0].shape == (40, 24, 1)
    with pytest.raises(UsageError, match=r"must be three letters.* got 'LP'; give LPI"):
        paired(raw, axes="LP")
    write_cohort(plain, tmp_path / "cohort")
    cohort = Cohort.open(tmp_path / "cohort")
    assert all(row.warnings == (ASSUMED,) and not row.suspect for row in cohort.rows.values())
    assert inspect_cohort(cohort).text.splitlines()[-1] == f"warning: {ASSUMED}: in 3 of 3 cases (a, b, c)"
    assert write_cohort(stated, tmp_path / "cohort").written == ("a", "b", "c")
    assert "directions" not in inspect_cohort(Cohort.open(tmp_path / "cohort")).text


def test_a_viewer_shows_it_upright(raw):
    from volseg.pictures.orientation import View

    case = paired(raw).load("a")
    image = case.channels[0]
    assert np.array_equal(View.of(image.affine_ras).apply(image.voxels)[0], colours()[..., 0])


def test_the_cohort_is_whole_and_converting_again_writes_nothing(raw, tmp_path):
    first = write_cohort(paired(raw), tmp_path / "cohort")
    assert (first.written, first.failed) == (("a", "b", "c"), {})
    cohort = Cohort.open(tmp_path / "cohort")
    assert not inspect_cohort(cohort).failed
    assert cohort.rows["a"].shape == (40, 24, 1)
    assert write_cohort(paired(raw), tmp_path / "cohort").finished_before == ("a", "b", "c")
    save(raw / "masks" / "b_mask.png", square(1, 3))
    assert write_cohort(paired(raw), tmp_path / "cohort").written == ("b",)


def test_16_bits_and_colours_keep_their_values(tmp_path):
    deep = np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 68
    save(tmp_path / "a.tif", deep)
    source = Images(tmp_path)
    assert not source.labelled("a")
    case = source.load("a")
    assert case.channels[0].voxels.dtype == np.uint16
    assert np.array_equal(to_raster(case.channels[0]), deep)
    save(tmp_path / "b.png", colours())
    source = Images(tmp_path)
    assert source.channel_names == ("red", "green", "blue")
    assert np.array_equal(np.dstack([to_raster(volume) for volume in source.load("b").channels]), colours())
    grey_among_colours = source.load("a")
    assert all(np.array_equal(to_raster(volume), deep) for volume in grey_among_colours.channels)
    assert "three channels are equal" in grey_among_colours.warnings[0]


def test_luminance_leaves_equal_channels_as_they_are(tmp_path):
    save(tmp_path / "a.png", np.dstack([GREY] * 3))
    save(tmp_path / "b.png", colours())
    source = Images(tmp_path, colour="grey")
    assert np.array_equal(to_raster(source.load("a").channels[0]), GREY)
    case = source.load("b")
    expected = colours() @ np.array([0.299, 0.587, 0.114])
    assert np.abs(to_raster(case.channels[0]) - expected).max() < 0.6
    assert "reduced to luminance" in case.warnings[0]


def test_transparency_is_told_in_an_image_and_refused_in_a_mask(raw):
    clear = np.dstack([colours(), np.full((24, 40), 9, np.uint8)])
    save(raw / "images" / "a.png", clear)
    assert any("transparency dropped, 960 pixels" in warning for warning in paired(raw).load("a").warnings)
    save(raw / "masks" / "b_mask.png", np.dstack([square(1, 4), square(1, 4)]))
    with pytest.raises(SourceError, match="not opaque"):
        paired(raw).load("b")


def test_spacing_by_option_and_by_file(raw):
    assert paired(raw, spacing_mm=[0.5, 0.25]).load("a").channels[0].spacing_mm == (0.5, 0.25, 1.0)
    assert paired(raw, spacing_mm=[0.5, 0.25, 3]).load("a").label.spacing_mm == (0.5, 0.25, 3.0)
    save(raw / "images" / "a.png", GREY, dpi=(254, 254))
    case = paired(raw).load("a")
    assert case.label.spacing_mm[:2] == pytest.approx((0.1, 0.1), rel=1e-3)
    assert "dpi" in case.warnings[0]
    given = paired(raw, spacing_mm=[2.0]).load("a")
    assert (given.channels[0].spacing_mm, given.warnings) == ((2.0, 2.0, 1.0), (ASSUMED,))
    for wrong in ([0.0], [1.0, 2.0, 3.0, 4.0], [float("nan")]):
        with pytest.raises(UsageError, match="spacing"):
            paired(raw, spacing_mm=wrong)


def test_jpeg_masks_are_cut_in_the_middle(raw):
    mask = square(4, 20)
    save(raw / "masks" / "a_mask.jpg", np.dstack([mask] * 3), quality=60)
    source = paired(raw, masks=["masks/{key}_mask.jpg"], missing="unlabelled")
    label = to_raster(source.load("a").label)
    assert np.count_nonzero(label != (mask > 0)) <= 4
    assert not source.labelled("b")


def test_shades_are_refused_without_a_threshold(raw):
    shaded = square(2, 10)
    shaded[2, 2:10] = 100
    save(raw / "masks" / "a_mask.png", shaded)
    with pytest.raises(LabelError, match=r"2 values beside the background \(100, 255\).*--threshold 1 if all"):
        paired(raw).load("a")
    assert np.count_nonzero(paired(raw, threshold=1).load("a").label.voxels) == 64
    assert np.count_nonzero(paired(raw, threshold=128).load("a").label.voxels) == 56
    red = np.zeros((24, 40, 3), np.uint8)
    red[3, 4, 0] = 255  # of a luminance below 128
    save(raw / "masks" / "a_mask.png", red)
    assert np.argwhere(to_raster(paired(raw, threshold=128).load("a").label)).tolist() == [[3, 4]]


def test_left_and_right_merged_equal_the_whole_and_apart_stay_two_regions(raw):
    for name in "abc":
        left, right = square(1, 8), np.zeros((24, 40), np.uint8)
        right[5:20, 20:30] = 255
        save(raw / "left" / f"{name}.png", left)
        save(raw / "right" / f"{name}.png", right)
        save(raw / "both" / f"{name}.png", left | right)
    merged = paired(raw, masks=["lung=left/{key}.png", "lung=right/{key}.png"])
    whole = paired(raw, masks=["lung=both/{key}.png"])
    assert merged.labels.names == ("lung",)
    assert np.array_equal(merged.load("a").label.voxels, whole.load("a").label.voxels)
    apart = paired(raw, masks=["left_lung=left/{key}.png", "right_lung=right/{key}.png"])
    masks = apart.labels.masks(apart.load("a").label.voxels)
    assert [int(mask.sum()) for mask in masks] == [49, 150]
    assert np.array_equal(masks.any(axis=0), whole.load("a").label.voxels > 0)


def test_regions_that_overlap_keep_both(raw):
    save(raw / "heart" / "a.png", square(4, 10))
    source = paired(raw, masks=["lung=masks/{key}_mask.png", "heart=heart/{key}.png"], missing="empty")
    label = source.load("a").label.voxels
    assert [int(mask.sum()) for mask in source.labels.masks(label)] == [16, 36]
    assert [int(mask.sum()) for mask in source.labels.masks(source.load("b").label.voxels)] == [25, 0]


def test_many_regions_keep_their_overlaps_where_that_is_asked_for(raw):
    """Ribs across lungs, as in X-ray images."""
    names = ["lung", *(f"rib{number}" for number in range(9))]
    for place, name in enumerate(names):
        for image in "abc":
            save(raw / name / f"{image}.png", square(*((2, 20) if name == "lung" else (2 * place, 2 * place + 3))))
    masks = [f"{name}={name}/{{key}}.png" for name in names]
    with pytest.raises(LabelError, match="lung and rib0 overlap, and a table of 10 regions keeps no overlap; keep it"):
        paired(raw, masks=masks).load("a")
    told = []
    source = paired(raw, masks=masks, overlaps=True, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    found = source.labels.masks(source.load("b").label.voxels)
    assert [int(mask.sum()) for mask in found] == [18**2, *[9] * 9]


def test_class_values_from_palette_indices_and_colours_from_the_palette(raw):
    indices = Image.fromarray(square(2, 6, value=1) + square(3, 5, value=1))
    indices.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    indices.save(raw / "masks" / "a_mask.png")
    by_value = paired(raw, classes=["rim=1", "core=2"]).load("a").label.voxels
    by_colour = paired(raw, classes=["rim=#800000", "core=#008000"]).load("a").label.voxels
    assert np.array_equal(by_value, by_colour)
    assert np.bincount(by_value.ravel()).tolist() == [960 - 16, 12, 4]


def test_undeclared_classes_are_listed_with_their_pixels(raw):
    mask = np.zeros((24, 40, 3), np.uint8)
    mask[:2, :3] = (255, 0, 0)
    mask[5, :4] = (0, 255, 0)
    mask[6, 0] = (1, 2, 3)
    save(raw / "masks" / "a_mask.png", mask)
    with pytest.raises(LabelError, match=r"#00ff00 in 4 pixels, #010203 in 1 pixels; add NAME=CODE"):
        paired(raw, classes=["x=#ff0000"]).load("a")
    declared = paired(raw, classes=["x=#ff0000", "background=#000000", "background=#010203", "y=#00FF00"])
    assert np.bincount(declared.load("a").label.voxels.ravel()).tolist() == [960 - 10, 6, 4]
    with pytest.raises(SourceError, match="holds colours, expected values"):
        paired(raw, classes=["x=1"]).load("a")
    save(raw / "masks" / "a_mask.png", square(1, 3, value=7))
    with pytest.raises(LabelError, match="7 in 4 pixels"):
        paired(raw, classes=["x=1"]).load("a")


@pytest.mark.parametrize("classes", [["x=1", "ignore=255", "y=2"], ["ignore=255", "x=1", "y=2"]])
def test_pixels_to_ignore_have_the_largest_value_and_are_no_region(raw, tmp_path, classes):
    """As the border of PASCAL VOC; converting again finds the same labels."""
    mask = square(1, 3, value=255) + square(5, 7, value=1) + square(9, 10, value=2)
    for key in "abc":
        save(raw / "masks" / f"{key}_mask.png", mask)
    for written in (3, 0):
        source = paired(raw, classes=classes)
        assert len(write_cohort(source, tmp_path / "cohort").written) == written
    cohort = Cohort.open(tmp_path / "cohort")
    assert (cohort.labels.names, cohort.labels.ignore) == (("x", "y"), 3)
    assert np.bincount(read_volume(cohort.label_path("a")).voxels.ravel())[1:].tolist() == [4, 1, 4]


def test_a_region_of_its_own_files_is_not_called_ignore(raw):
    with pytest.raises(LabelError, match="a region is called 'ignore'"):
        paired(raw, masks=["ignore=masks/{key}_mask.png"])


def test_class_masks_are_neither_jpeg_nor_several(raw):
    save(raw / "masks" / "a_mask.jpg", square(1, 9))
    with pytest.raises(SourceError, match="JPEG"):
        paired(raw, masks=["masks/{key}_mask.jpg"], classes=["x=1"], missing="unlabelled").load("a")
    save(raw / "masks" / "a_other_mask.png", square(1, 9))
    source = paired(raw, masks=["masks/{key}_*mask.png"], classes=["x=255"], missing="unlabelled")
    with pytest.raises(SourceError, match="2 masks of classes"):
        source.load("a")


@pytest.mark.parametrize(
    ("classes", "reason"),
    [
        (["lung"], "must be NAME=VALUE"),
        (["lung=#ff00"], "must be NAME=VALUE"),
        (["lung=1", "heart=#ff0000"], "values and colours"),
        (["lung=1", "heart=1"], "two classes have the code 1"),
        (["background=3"], "no class besides"),
        (["ignore=255"], "no class besides"),
        (["lung=0"], "say what is background"),
    ],
)
def test_wrong_classes(classes, reason):
    with pytest.raises(UsageError, match=reason):
        Classes.parse(classes)


def test_objects_of_files_and_of_values_are_the_same(raw, tmp_path):
    one, two = square(2, 6), np.zeros((24, 40), np.uint8)
    two[2:6, 6:12] = 255  # touches the first
    save(raw / "nuclei" / "a_1.png", one)
    save(raw / "nuclei" / "a_2.png", two)
    numbers = (one > 0) * np.uint16(700) + (two > 0) * np.uint16(9)
    save(raw / "numbers" / "a.png", numbers.astype(np.uint16))
    files = Images(raw, images="images/{key}.png", masks=["nuclei/{key}_*.png"], objects="files", missing="empty")
    values = Images(raw, images="images/{key}.png", masks=["numbers/{key}.png"], objects="values", missing="empty")
    for source, order in ((files, (1, 2)), (values, (2, 1))):
        case = source.load("a")
        assert case.instances.voxels.dtype == np.uint16
        assert np.array_equal(to_raster(case.instances), (one > 0) * order[0] + (two > 0) * order[1])
        assert np.array_equal(case.instances.voxels > 0, case.label.voxels > 0)
        assert source.load("b").instances.voxels.max() == 0
    write_cohort(files, tmp_path / "cohort")
    cohort = Cohort.open(tmp_path / "cohort")
    assert cohort.has_instances
    assert read_volume(cohort.instances_path("a")).voxels.max() == 2
    (tmp_path / "cohort" / "instancesTr" / "a.nii.gz").unlink()
    assert write_cohort(files, tmp_path / "cohort").written == ("a",)


def test_objects_that_share_pixels_or_have_none_are_told(raw):
    save(raw / "nuclei" / "a_1.png", square(2, 8))
    save(raw / "nuclei" / "a_2.png", square(3, 5))
    save(raw / "nuclei" / "a_3.png", square(6, 9))
    case = Images(
        raw, images="images/{key}.png", masks=["nuclei/{key}_*.png"], objects="files", missing="unlabelled"
    ).load("a")
    assert np.bincount(case.instances.voxels.ravel())[1:].tolist() == [36, 5]
    assert "objects share 8 pixels, each given to the first" in case.warnings
    assert "1 objects have no pixel of their own and are not counted" in case.warnings


def test_what_does_not_pair_is_a_row_each_and_the_others_go_on(raw, tmp_path):
    (raw / "masks" / "a_mask.png").unlink()
    save(raw / "masks" / "d_mask.png", square(1, 3))
    save(raw / "images" / "e f.png", GREY)
    save(raw / "images" / "e_f.png", GREY)
    for name in ("e f", "e_f"):
        save(raw / "masks" / f"{name}_mask.png", square(1, 3))
    done = write_cohort(paired(raw), tmp_path / "cohort")
    assert done.written == ("b", "c")
    assert "images/a.png has no mask that matches 'masks/{key}_mask.png'" in done.failed["a"]
    assert "masks/d_mask.png has no image that matches 'images/{key}.png'" in done.failed["d"]
    assert "two images have the key e_f: images/e f.png, images/e_f.png" in done.failed["e_f"]


def test_one_key_twice_is_refused_and_patient_tells_apart(tmp_path):
    for patient in ("p1", "p2"):
        for name in ("x", "y"):
            save(tmp_path / patient / f"{name}.png", GREY)
            save(tmp_path / patient / f"{name}_seg.png", square(1, 3))
    with pytest.raises(SourceError, match=r"2 images have this key: p1/x.png, p2/x.png"):
        Images(tmp_path, images="*/{key}.png", masks=["*/{key}_seg.png"])
    source = Images(tmp_path, images="{patient}/{key}.png", masks=["{patient}/{key}_seg.png"])
    assert source.keys() == ["p1_x", "p1_y", "p2_x", "p2_y"]
    assert source.load("p2_y").patient == "p2"
    with pytest.raises(UsageError, match="put it into all or none"):
        Images(tmp_path, images="{patient}/{key}.png", masks=["*/{key}_seg.png"])


def test_files_of_no_pattern_are_named_in_the_log(raw, caplog):
    save(raw / "images" / "d.tif", GREY)
    (raw / "notes.txt").write_text("no image")
    save(raw / "images" / ".hidden.png", GREY)
    assert paired(raw).keys() == ["a", "b", "c"]
    assert "1 image files match no pattern and are left out: images/d.tif" in caplog.text


def test_folds_by_pattern_and_a_test_that_no_split_touches(raw, tmp_path):
    from volseg.cohort import split_by_patient

    for name in ("d03", "e03", "f", "g"):
        save(raw / "images" / f"{name}.png", GREY)
        save(raw / "masks" / f"{name}_mask.png", square(1, 3))
    source = paired(raw, validation=["*03.png"], test=["images/f.png"])
    write_cohort(source, tmp_path / "cohort", validation=source.validation)
    cohort = Cohort.open(tmp_path / "cohort")
    assert [(fold.training, fold.validation) for fold in cohort.folds()] == [(("a", "b", "c", "g"), ("d03", "e03"))]
    assert cohort.part("test") == ("f",)
    assert not any("f" in fold.training + fold.validation for fold in split_by_patient(cohort.rows.values(), folds=3))
    before = (tmp_path / "cohort" / "splits.json").read_bytes()
    write_cohort(source, tmp_path / "cohort", validation=source.validation)
    assert (tmp_path / "cohort" / "splits.json").read_bytes() == before
    only_test = paired(raw, test=["images/f.png"])
    write_cohort(only_test, tmp_path / "other", folds=2)
    other = Cohort.open(tmp_path / "other")
    assert {key for fold in other.folds() for key in fold.validation} == set(other.keys) - {"f"}
    with pytest.raises(UsageError, match="matches no image"):
        paired(raw, validation=["nothing/**"])


def test_a_patient_on_two_sides_is_refused(tmp_path):
    for patient in ("p1", "p2"):
        for name in ("x01", "y03"):
            save(tmp_path / patient / f"{name}.png", GREY)
    with pytest.raises(UsageError, match="2 patients have images on two sides of the split, such as p1"):
        Images(tmp_path, images="{patient}/{key}.png", validation=["*03.png"])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"images": "images/a.png"}, "has no {key}"),
        ({"images": "{name}.png"}, "placeholders are"),
        ({"images": "../{key}.png"}, "leaves the folder"),
        ({"classes": ["x=1"], "threshold": 3}, "--classes says"),
        ({"masks": [], "threshold": 3}, "--threshold and --objects are of masks"),
        ({"objects": "values", "threshold": 3}, "no --threshold"),
        ({"colour": "blue"}, "the colour is 'blue'"),
        ({"missing": "maybe"}, "missing masks are 'maybe'"),
    ],
)
def test_options_that_do_not_fit(raw, options, reason):
    with pytest.raises(UsageError, match=reason):
        Images(raw, **{"images": "images/{key}.png", "masks": ["masks/{key}_mask.png"], **options})


def test_bad_files_are_rows_with_exit_code_1_while_the_others_go_on(raw, tmp_path):
    bad = {"empty": b"", "cut": (raw / "images" / "a.png").read_bytes()[:200], "gif": b"GIF89a" + bytes(20)}
    for name, content in bad.items():
        (raw / "images" / f"{name}.png").write_bytes(content)
        save(raw / "masks" / f"{name}_mask.png", square(1, 3))
    save(raw / "images" / "small.png", GREY[:10])
    save(raw / "masks" / "small_mask.png", square(1, 3))
    Image.new("CMYK", (40, 24)).save(raw / "images" / "ink.png", "TIFF")
    save(raw / "masks" / "ink_mask.png", square(1, 3))
    command = ["convert", "images", str(raw), str(tmp_path / "cohort"), "--images", "images/{key}.png"]
    result = CliRunner().invoke(app, [*command, "--masks", "organ=masks/{key}_mask.png"])
    assert result.exit_code == 1, result.output
    assert "3 written, 0 finished before, 5 failed" in result.output
    for name, reason in {
        "empty": "is empty (0 bytes)",
        "cut": "is cut short",
        "gif": "gif.png cannot be decoded",
        "small": "small_mask.png is 40 wide and 24 high, its image images/small.png 40 wide and 10 high",
        "ink": "CMYK",
    }.items():
        assert any(line.startswith(f"failed  {name}:") and reason in line for line in result.output.splitlines()), name
    with (tmp_path / "cohort" / "cases.csv").open() as file:
        assert [row["key"] for row in csv.DictReader(file)] == ["a", "b", "c"]
    assert json.loads((tmp_path / "cohort" / "dataset.json").read_text())["volseg"]["source"] == "images"


def test_the_command_refuses_options_of_other_kinds(raw, tmp_path):
    for options in (["images", "--series", "x"], ["decathlon", "--masks", "{key}.png"]):
        result = CliRunner().invoke(app, ["convert", options[0], str(raw), str(tmp_path / "c"), *options[1:]])
        assert result.exit_code != 0
        assert isinstance(result.exception, UsageError)


def test_lungs(shared_data, tmp_path):
    source = Images(
        shared_data / "lungs_xray",
        images="*/images/{key}.jpg",
        masks=["lung=*/masks/{key}.jpg"],
        colour="grey",
        validation=["valid/**"],
        test=["test/**"],
    )
    assert (len(source.keys()), len(source.validation)) == (32, 6)
    case = source.load("CHNCXR_0017_0")
    stored = np.asarray(Image.open(shared_data / "lungs_xray" / "test" / "images" / "CHNCXR_0017_0.jpg"))
    assert np.array_equal(to_raster(case.channels[0]), stored[..., 0])
    lung = to_raster(case.label) > 0
    assert 0.1 < lung.mean() < 0.5
    # Upright: two lungs side by side, darker than what is between them.
    columns = lung.any(axis=0)
    assert columns[100:200].all()
    assert columns[320:420].all()
    assert to_raster(case.channels[0])[lung].mean() < to_raster(case.channels[0])[:, 240:270].mean()


def test_real_lungs_apart_and_merged_again_are_equal(shared_data, tmp_path):
    for path in sorted((shared_data / "lungs_xray" / "test" / "masks").glob("*.jpg")):
        marked = np.asarray(Image.open(path)).max(axis=2) >= 128
        parts, count = ndimage.label(marked)
        centres = ndimage.center_of_mass(marked, parts, range(1, count + 1))
        left = np.isin(parts, [1 + number for number, (_, column) in enumerate(centres) if column >= 256])  # of patient
        assert left.any()
        assert (marked & ~left).any()
        save(tmp_path / "left" / f"{path.stem}.png", np.uint8(255) * left)
        save(tmp_path / "right" / f"{path.stem}.png", np.uint8(255) * (marked & ~left))
        save(tmp_path / "images" / f"{path.stem}.png", np.zeros((512, 512), np.uint8))
    whole = Images(shared_data / "lungs_xray" / "test", images="images/{key}.jpg", masks=["lung=masks/{key}.jpg"])
    merged = paired(tmp_path, masks=["lung=left/{key}.png", "lung=right/{key}.png"])
    apart = paired(tmp_path, masks=["left_lung=left/{key}.png", "right_lung=right/{key}.png"])
    assert len(whole.keys()) == 6
    assert merged.keys() == apart.keys() == whole.keys()
    for key in whole.keys():  # noqa: SIM118 - a source is no dict
        label = whole.load(key).label
        assert np.array_equal(merged.load(key).label.voxels, label.voxels)
        masks = apart.labels.masks(apart.load(key).label.voxels)
        assert not masks.all(axis=0).any()
        assert np.array_equal(masks.any(axis=0), label.voxels > 0)


def test_true_nuclei_are_as_many_as_mask_files(shared_data):
    raw = shared_data / "tissue_nuclei"
    source = Images(raw, images="{key}/images/{key}.png", masks=["nucleus={key}/masks/*.png"], objects="files")
    assert len(source.keys()) == 10
    for key in source.keys():  # noqa: SIM118 - a source is no dict
        case = source.load(key)
        assert case.instances.voxels.max() == len(list((raw / key / "masks").glob("*.png")))
        assert len(np.unique(case.instances.voxels)) == case.instances.voxels.max() + 1
        assert np.array_equal(case.instances.voxels > 0, case.label.voxels > 0)


def test_masks_that_no_pattern_names_are_told(raw, caplog):
    """Without --masks each file is an image: those that are called as masks are told, in the log and in their cases."""
    source = Images(raw)
    assert "3 of 6 images are called as masks are, such as masks/a_mask.png" in caplog.text
    assert "'masks/{key}_mask.*' names them" in caplog.text
    noted = {key: any("called as a mask is" in note for note in source.load(key).warnings) for key in source.keys()}  # noqa: SIM118
    assert noted == {key: key.endswith("_mask") for key in noted}
    for name in "abc":
        (raw / "masks" / f"{name}_mask.png").rename(raw / "masks" / f"{name}.png")
    with pytest.raises(SourceError, match=r"2 images have this key: .*name the masks with --masks 'masks/\{key\}\.\*'"):
        Images(raw)
    assert Images(raw, images="images/{key}.png", masks=["masks/{key}.*"]).load("a").label is not None


@pytest.mark.parametrize("ending", [".npy", ".svg", ".tif.gz"])
def test_images_of_a_kind_that_is_not_read_are_named(raw, ending):
    """The cure never is the command that was just given."""
    for path in (raw / "images").iterdir():
        path.rename(path.with_suffix(ending))
    with pytest.raises(SourceError, match=f"images/a{ending} is of a kind that is not read: save it as PNG") as refused:
        Images(raw, images=f"images/{{key}}{ending}", masks=["masks/{key}_mask.png"])
    assert "volseg convert images" not in str(refused.value)


def test_images_behind_a_linked_folder_are_cases_too(raw, tmp_path):
    """A data set put together of links to the folders of its sites."""
    (tmp_path / "sites").mkdir()
    for site in ("one", "two"):
        (tmp_path / "sites" / site).symlink_to(raw)
    source = Images(tmp_path / "sites", images="*/images/{key}.png", masks=["*/masks/{key}_mask.png"])
    assert source.keys() == ["a", "b", "c"], "the second link leads to the same folder"
    assert np.array_equal(to_raster(source.load("a").channels[0]), GREY)


def test_what_is_meant_is_found_in_work_that_grows_with_the_files_alone(tmp_path, monkeypatch):
    """Each image without a mask looked through all files that no pattern matches: an hour for 20,000 images."""
    looked_at = []

    class Counted(PurePosixPath):
        @property
        def stem(self):
            looked_at.append(self)
            return super().stem

    monkeypatch.setattr(image_pairs, "PurePosixPath", Counted)
    work = []
    for count in (20, 40):
        folder = tmp_path / str(count)
        for number in range(count):
            for name in (f"images/i{number}_.png", f"masks/i{number}_seg.png"):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).touch()
        looked_at.clear()
        found = image_pairs.pair_files(folder, Pattern("images/{key}.png"), [Pattern("masks/{key}_mask.png")])
        assert len(found.by_key) == count
        assert all("did you mean 'masks/{key}seg.png'?" in str(pair.problem) for pair in found.by_key.values())
        work.append(len(looked_at))
    assert work[1] <= 2 * work[0]


def test_an_image_of_many_masks_takes_a_byte_per_pixel_and_mask(tmp_path):
    """They were three, so that an image of 375 nuclei of the Data Science Bowl took 1.6 GB."""
    count, size = 60, 300
    save(tmp_path / "images/a.png", np.zeros((size, size), np.uint8))
    for number in range(count):
        mask = np.zeros((size, size), np.uint8)
        mask[4 * number : 4 * number + 3, 5:9] = 255
        save(tmp_path / f"masks/a_{number}.png", mask)
    source = Images(tmp_path, images="images/{key}.png", masks=["nucleus=masks/{key}_*.png"], objects="files")
    tracemalloc.start()
    try:
        case = source.load("a")
        peak = tracemalloc.get_traced_memory()[1] / (size * size * count)
    finally:
        tracemalloc.stop()
    assert peak < 1.8
    assert case.instances.voxels.max() == count
    assert case.label.voxels.sum() == count * 12
