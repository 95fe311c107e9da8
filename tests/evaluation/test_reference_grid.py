"""The grid of a reference is that of its image, by the rule of `NiftiHeader`, also where nothing was converted."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

from volseg.cohort import Cohort
from volseg.evaluation import evaluate

PIXDIM = (1.5, 1.5, 10.0)
TRUE = np.diag([-1.5, -1.5, 10.0, 1.0])
BARE = np.diag([-1.0, -1.0, 1.0, 1.0])
SHAPE = (12, 10, 6)


def save(path, voxels, *, qform=None, sform=None, unit="mm"):
    image = nib.Nifti1Image(voxels, sform)
    if sform is None:
        image.set_sform(None, 0)
    image.set_qform(qform, 0 if qform is None else 1)
    if qform is not None:
        image.header["pixdim"][1:4] = PIXDIM
    image.header.set_xyzt_units(unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def scored(tmp_path, of_image, of_label, of_prediction):
    """The row of one case, whose prediction misses the topmost slice of the reference."""
    reference = np.zeros(SHAPE, np.uint8)
    reference[2:9, 2:8, 1:5] = 1
    guess = reference.copy()
    guess[:, :, 4] = 0
    save(tmp_path / "c/imagesTr/p1_0000.nii.gz", reference.astype(np.int16), **of_image)
    save(tmp_path / "c/labelsTr/p1.nii.gz", reference, **of_label)
    save(tmp_path / "pred/p1.nii.gz", guess, **of_prediction)
    facts = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "LV": 1}, "numTraining": 1}
    (tmp_path / "c/dataset.json").write_text(json.dumps({**facts, "file_ending": ".nii.gz"}))
    (row,) = evaluate(tmp_path / "pred", Cohort.open(tmp_path / "c"))
    return row


@pytest.mark.parametrize("predicted", ["own forms", "sform alone"])
@pytest.mark.parametrize(
    ("of_image", "of_label"),
    [
        # ACDC's images; the label was saved by nibabel with the image's sform alone, so its own spacing is 1 mm.
        ({"qform": TRUE, "sform": BARE}, {"sform": BARE}),
        # The same, and the label was saved by a program that takes the qform.
        ({"qform": TRUE, "sform": BARE}, {"qform": TRUE}),
        # The image states nothing but a qform; the label has both.
        ({"qform": TRUE}, {"qform": TRUE, "sform": TRUE}),
        # Micrometres in the label alone.
        ({"qform": TRUE, "sform": TRUE}, {"sform": np.diag([-1500.0, -1500.0, 10000.0, 1.0]), "unit": "micron"}),
    ],
)
def test_distances_are_those_of_the_image(tmp_path, of_image, of_label, predicted):
    row = scored(tmp_path, of_image, of_label, of_image if predicted == "own forms" else of_label)
    assert not row.error
    assert row.hausdorff_mm == pytest.approx(10)
    assert row.reference_ml == pytest.approx(7 * 6 * 4 * 1.5 * 1.5 * 10 / 1000, rel=1e-6)


def test_a_reference_off_its_image_is_refused(tmp_path):
    """No reading of the image's header lies where the label is: neither spacing can be believed."""
    row = scored(tmp_path, {"qform": TRUE, "sform": TRUE}, {"sform": BARE}, {"sform": BARE})
    assert row.dice is None
    assert "the reference must be on the grid of its image" in row.error
    assert "convert the case again" in row.error
