"""Grids of the matrix of geometry, a label on each, and how far voxels lie from where they should."""

from __future__ import annotations

import json
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import slicerio
import tiny_bundle
import torch
from scipy.spatial import cKDTree
from typer.testing import CliRunner

from volseg.bundle import Recipe
from volseg.cli import app
from volseg.labels import LabelTable

LABELS = LabelTable.exclusive(["organ"])
ORIENTATIONS = ("RAS", "LPS", "LPI", "RPI", "AIR", "SLP", "PSR", "IAL")
TURNS = {"straight": (0, 0), "oblique": (20, 0), "double": (-13, 27)}
SPACING, COUNT = {"R": 1.2, "A": 0.9, "S": 2.5}, {"R": 10, "A": 12, "S": 8}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
NEAR = 0.01  # of a voxel
WORST: dict[str, float] = {}
"""The largest distance that `check_near` saw, in voxels, by its name."""


def turned(tilt, about_head):
    t, u = np.radians((tilt, about_head))
    one = np.array([[1, 0, 0], [0, np.cos(t), -np.sin(t)], [0, np.sin(t), np.cos(t)]])
    return one @ np.array([[np.cos(u), -np.sin(u), 0], [np.sin(u), np.cos(u), 0], [0, 0, 1]])


def grid(axes, turn, *, tilt=0.0, square=False):
    """Shape and affine (RAS mm) of a grid whose spacings belong to the body's axes, so that each orientation differs.

    With a tilt, in degrees, slices are turned about their first axis and stacked as before: the gantry is tilted. If it
    is square, pixels of its slices measure 1 x 1 mm.
    """
    steps, shape = np.zeros((3, 3)), []
    for column, letter in enumerate(axes):
        towards = letter if letter in "RAS" else "RAS"["LPI".index(letter)]
        steps["RAS".index(towards), column] = SPACING[towards] * (1 if letter == towards else -1)
        shape.append(COUNT[towards])
    if square:
        steps[:, :2] /= np.linalg.norm(steps[:, :2], axis=0)
    if tilt:
        second, third = steps[:, 1], steps[:, 2] / np.linalg.norm(steps[:, 2])
        t = np.radians(tilt)
        steps[:, 1] = second * np.cos(t) + third * np.linalg.norm(second) * np.sin(t)
    affine = np.eye(4)
    affine[:3, :3] = turned(*TURNS[turn]) @ steps
    affine[:3, 3] = (11.3, -27.7, 312.9) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return tuple(shape), affine


def label_of(shape):
    """Two boxes and a single voxel: no flip and no turn leaves it as it is."""
    voxels = np.zeros(shape, np.uint8)
    voxels[2:6, 3:7, 2:4] = voxels[2:4, 3:5, 4:6] = voxels[-2, -3, -2] = 1
    return voxels


def places(voxels, affine):
    """(N, 3) in RAS mm: the centres of what is labelled."""
    at = np.argwhere(voxels)
    return at @ np.asarray(affine)[:3, :3].T + np.asarray(affine)[:3, 3]


def apart(one, other, voxel_mm):
    """The largest distance from a place of either to the nearest of the other, in voxels; inf where one is empty."""
    if not len(one) or not len(other):
        return np.inf
    return float(max(cKDTree(a).query(b)[0].max() for a, b in ((one, other), (other, one)))) / voxel_mm


def check_near(what, one, other, affine, case):
    """Two sets of places are the same to 1 % of the smallest side of a voxel; the largest distance is kept by name."""
    distance = apart(one, other, float(np.linalg.norm(affine[:3, :3], axis=0).min()))
    WORST[what] = max(WORST.get(what, 0.0), distance)
    assert distance < NEAR, (case, what, distance)


def by_nibabel(path: Path):
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def by_itk(path: Path):
    image = itk.imread(str(path))
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) @ np.diag(list(image.GetSpacing()))
    affine[:3, 3] = list(image.GetOrigin())
    return itk.array_from_image(image).T, LPS @ affine


def by_slicerio(path: Path):
    found = slicerio.read_segmentation(str(path))
    return found["voxels"], LPS @ found["ijkToLPS"]


def itk_image(voxels, affine_ras):
    lps = LPS @ affine_ras
    steps = np.linalg.norm(lps[:3, :3], axis=0)
    image = itk.image_from_array(np.ascontiguousarray(voxels.T))
    image.SetSpacing(steps.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(lps[:3, :3] / steps)))
    return image


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result.output


def write_network(folder: Path, *, slope: float = 5.0) -> tuple[Path, Path]:
    """A bundle whose network finds what is brighter than the mean: a convolution of one voxel.

    With a small slope its probabilities are linear in the image, which resampling keeps.
    """
    bundle = tiny_bundle.write_bundle(folder / "bundle")
    for name, channels in (("train.json", "cohort"), ("inference.json", "recipe")):
        content = json.loads((bundle / name).read_text())
        content["network_def"] = {
            "_target_": "torch.nn.Conv3d",
            "in_channels": f"$len(@{channels}.channel_names)",
            "out_channels": "$@labels.channels",
            "kernel_size": 1,
        }
        (bundle / name).write_text(json.dumps(content))
    network = torch.nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        network.weight[:] = torch.tensor([-slope, slope]).reshape(2, 1, 1, 1, 1)
        network.bias[:] = 0
    recipe = Recipe(LABELS, ["CT"], [1.2, 0.9, 2.5], [16, 16, 16], {"feature_size": 12, "window_size": 4}, {})
    torch.save({"model": network.state_dict(), "recipe": recipe.state_dict()}, folder / "model.pt")
    return bundle, folder / "model.pt"
