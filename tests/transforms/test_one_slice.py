"""Images of one slice: augmented in their plane, neither shifted nor blurred, and trained by the bundles of volumes."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from image_files import save
from monai import transforms as mt
from monai.bundle import ConfigParser
from monai.networks.nets import DynUNet
from monai.utils import set_determinism
from scipy.ndimage import gaussian_filter

from volseg.cohort import Cohort, write_cohort
from volseg.errors import BundleError
from volseg.formats import Images
from volseg.inference import Predictor
from volseg.labels import LabelTable
from volseg.networks import in_plane
from volseg.plan import fit_pyramid
from volseg.training import train
from volseg.training.checks.preflight import check_slices, preflight
from volseg.transforms import augmentation, postprocessing, preprocessing
from volseg.transforms.reading import SmoothSliced
from volseg.volume import Volume, read_volume, write_volume

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
LABELS = LabelTable.exclusive(["lung"])
AFFINE = np.diag([-1.0, -1.0, 1.0, 1.0])  # as volseg.volume.image_slice gives it
# Small enough that a step takes a second.
TINY = {
    "unet": {"width": 4},
    "dense_unet": {"growth_rate": 2},
    "segformer": {"upsample": 1, "weights": None},
}


def one_of(kind, steps):
    (found,) = [step for step in steps.transforms if isinstance(step, kind)]
    return found


def picture(shape=(48, 64), seed=0):
    """A smooth image and the label of what is bright in it."""
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = gaussian_filter(noise, 4)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return (255 * smooth).astype(np.uint8), (smooth > 0.6).astype(np.uint8)


def item_of(folder, image, label, affine=AFFINE):
    write_volume(folder / "case_0000.nii.gz", Volume(image[..., None], affine))
    write_volume(folder / "case.nii.gz", Volume(label[..., None], affine))
    return {"key": "case", "image": [str(folder / "case_0000.nii.gz")], "label": str(folder / "case.nii.gz")}


@pytest.fixture(scope="module", params=["grey", "rgb"])
def images(request, tmp_path_factory):
    """A cohort of images of differing sizes, four to train and two to validate."""
    raw = tmp_path_factory.mktemp(request.param)
    for number in range(6):
        image, label = picture((48 + 4 * (number % 2), 64), seed=number)
        image = np.dstack([image, 255 - image, image // 2]) if request.param == "rgb" else image
        save(raw / f"{number}.png", image)
        save(raw / f"{number}_mask.png", 255 * label)
    source = Images(raw, masks=["lung={key}_mask.png"], validation=["4.png", "5.png"])
    folder = raw.parent / f"{raw.name}_cohort"
    assert not write_cohort(source, folder, validation=source.validation).failed
    return folder


# Augmentation


def test_a_slice_is_turned_in_its_plane_as_the_slices_of_a_stack_are():
    image = torch.from_numpy(picture()[0] / 255.0).float()[None, :, :, None]
    affine = one_of(mt.RandAffined, augmentation(LABELS, roi_size=(48, 64, 1)))
    affine.prob = 1.0
    stack = image.expand(-1, -1, -1, 5)
    for seed in range(5):
        turned = affine.set_random_state(seed)({"image": image, "label": image})["image"]
        stacked = affine.set_random_state(seed)({"image": stack, "label": stack})["image"]
        assert not torch.allclose(turned, image, atol=0.05)
        for number in range(5):
            assert torch.allclose(stacked[..., number], turned[..., 0], atol=1e-5)


@pytest.mark.parametrize("thin", [0, 1, 2])
def test_nothing_leaks_in_from_beside_a_slice(thin):
    shape = [32, 40]
    shape.insert(thin, 1)
    plain = torch.ones(1, *shape)
    steps = augmentation(LABELS, roi_size=shape)
    for kind in (mt.RandAffined, mt.RandGaussianSmoothd, mt.RandSimulateLowResolutiond):
        step = one_of(kind, steps)
        step.prob = 1.0
        for seed in range(10):
            done = step.set_random_state(seed)({"image": plain, "label": plain})["image"]
            assert done.shape == plain.shape
            inner = done[0][tuple(slice(8, -8) if n > 1 else slice(None) for n in shape)]
            # Blur pads with zeros: at the rim of the plane it shows, beside the slice it must not.
            assert torch.allclose(inner, torch.ones(()), atol=1e-4), kind.__name__


def test_a_blurred_slice_is_the_blur_of_the_plane():
    image = torch.from_numpy(picture()[0] / 255.0).float()[None, :, :, None]
    blur = one_of(mt.RandGaussianSmoothd, augmentation(LABELS, roi_size=(48, 64, 1)))
    blur.prob = 1.0
    done = blur.set_random_state(3)({"image": image})["image"]
    sigmas = blur.rand_smooth.x, blur.rand_smooth.y, blur.rand_smooth.z
    assert sigmas[2] == 0
    expected = mt.GaussianSmooth(sigmas[:2])(image[..., 0])
    assert torch.allclose(done[..., 0], expected, atol=1e-5)


def test_coarse_dropout_hides_boxes_of_the_image_and_nothing_of_the_label(tmp_path):
    image, label = picture()
    item = preprocessing(LABELS, channels=1, spacing_mm=(1, 1, 1), roi_size=(48, 64, 1))(
        item_of(tmp_path, image, label)
    )
    steps = augmentation(LABELS, roi_size=(48, 64, 1), crops=1, coarse_dropout=1.0)
    drop = one_of(mt.RandCoarseDropoutd, steps)
    for seed in range(5):
        before = {"image": item["image"].as_tensor().clone(), "label": item["label"].as_tensor().clone()}
        after = drop.set_random_state(seed)(before)
        hidden = after["image"] != item["image"].as_tensor()
        assert 12 <= int(hidden.sum()) <= 8 * 6 * 8
        assert (after["image"][hidden] == 0).all()
        assert torch.equal(after["label"], item["label"].as_tensor())
    kinds = {type(step) for step in augmentation(LABELS, roi_size=(48, 64, 1)).transforms}
    assert mt.RandCoarseDropoutd not in kinds, "off unless asked for"


def test_channels_of_an_image_vary_by_themselves_and_those_of_a_volume_together():
    def channel_wise(roi):
        steps = augmentation(LABELS, roi_size=roi).transforms
        return [step.scaler.channel_wise for step in steps if isinstance(step, mt.RandScaleIntensityd)]

    assert channel_wise((32, 32, 1)) == [False, True]
    assert channel_wise((32, 32, 8)) == [False]


def test_crops_of_an_image_and_its_label_are_moved_together(tmp_path):
    set_determinism(0)
    _, label = picture((96, 80))
    before = preprocessing(LABELS, channels=1, spacing_mm=(1, 1, 1), roi_size=(64, 64, 1))
    item = before(item_of(tmp_path, 200 * label, label))
    after = augmentation(LABELS, roi_size=(64, 64, 1), crops=1, flip_axes=(0, 1), coarse_dropout=0.2)
    agreement = []
    for _ in range(20):
        (crop,) = after(item)
        assert crop["image"].shape == crop["label"].shape == (1, 64, 64, 1)
        pair = torch.stack([crop["image"].flatten(), crop["label"].flatten().float()])
        agreement.append(float(torch.corrcoef(pair)[0, 1]))
    assert np.median(agreement) > 0.9


# Preprocessing and the way back


def test_an_image_on_its_own_grid_is_neither_shifted_nor_blurred(tmp_path):
    image, label = picture()
    item = preprocessing(LABELS, channels=1, spacing_mm=(1, 1, 1))(item_of(tmp_path, image, label))
    turned = np.ascontiguousarray(image[::-1, ::-1]).astype(np.float32)
    clipped = turned.clip(*np.percentile(turned, [0.5, 99.5]))
    expected = (clipped - clipped.mean()) / clipped.std()
    assert np.allclose(item["image"].numpy()[0, ..., 0], expected, atol=1e-4)
    assert np.array_equal(item["label"].numpy()[0, ..., 0], label[::-1, ::-1])


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (1.7, 1.7, 1.0), (0.8, 0.8, 1.0)])
def test_a_perfect_network_gives_the_mask_back_on_the_grid_of_the_image(tmp_path, spacing_mm):
    image, label = picture((96, 80))
    before = preprocessing(LABELS, channels=1, spacing_mm=spacing_mm)
    item = before(item_of(tmp_path, image, label))
    grid = [math.floor((n - 1) / mm) + 1 for n, mm in zip((96, 80), spacing_mm[:2], strict=True)]
    assert all(abs(n - m) <= 1 for n, m in zip(item["image"].shape[1:], [*grid, 1], strict=True))
    assert item["image"].shape[3] == 1
    target = item["label"].as_tensor().float()
    item["pred"] = torch.cat([1 - target, target]) * 20 - 10
    result = postprocessing(LABELS, before, output_dir=tmp_path / "out")(item)["pred"]
    result = result.numpy()[0, ..., 0]
    if spacing_mm[0] == 1:
        assert np.array_equal(result, label)
    assert (result == label).mean() > 0.95
    middles = [np.argwhere(one).mean(axis=0) for one in (result, label)]
    assert np.abs(middles[0] - middles[1]).max() < 0.3, "it is not shifted"
    written = read_volume(tmp_path / "out" / "case.nii.gz")
    assert written.shape == (96, 80, 1)
    assert np.array_equal(written.affine_ras, AFFINE)


def test_noise_of_single_pixels_is_averaged_on_a_coarser_grid_and_volumes_are_left_alone(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (128, 128), np.uint8)
    read = preprocessing(LABELS, channels=1, spacing_mm=(1, 1, 1)).transforms[:3]
    item = mt.Compose(read)(item_of(tmp_path, noise, noise // 200))
    smooth = SmoothSliced("image", spacing_mm=(4, 4, 1))(item)["image"]
    expected = gaussian_filter(item["image"].numpy()[0, ..., 0], 1.5, mode="nearest")
    assert np.allclose(smooth.numpy()[0, ..., 0], expected, atol=1e-3)
    assert torch.equal(smooth.affine, item["image"].affine)
    same = SmoothSliced("image", spacing_mm=(1, 1, 5))(item)["image"]
    assert same is item["image"], "a slice has no neighbours"
    volume = item["image"].expand(-1, -1, -1, 4)
    assert SmoothSliced("image", spacing_mm=(4, 4, 1))({"image": volume})["image"] is volume


# Networks


def test_a_slice_convolved_in_its_plane_gives_the_same_logits_and_gradients():
    def network():
        torch.manual_seed(0)
        pyramid = fit_pyramid([32, 48, 1], [1, 1, 1])
        shape = (pyramid.kernels, pyramid.strides, pyramid.strides[1:])
        return DynUNet(3, 1, 2, *shape, filters=pyramid.filters(4), deep_supervision=True)

    one, other = network(), in_plane(network())
    kinds = {type(module).__name__ for module in other.modules()}
    assert {"_Conv", "_TransposedConv"} <= kinds
    assert one.state_dict().keys() == other.state_dict().keys()
    image = torch.randn(2, 1, 32, 48, 1)
    first, second = one(image), other(image)
    assert torch.allclose(first, second, atol=1e-4)
    first.square().mean().backward()
    second.square().mean().backward()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None)
        assert a.grad is None or torch.allclose(a.grad, b.grad, atol=1e-4)
    volume = torch.randn(1, 1, 32, 48, 3)
    with torch.no_grad():
        assert torch.equal(one(volume), other(volume)), "volumes are as they were"


def test_a_network_of_volumes_is_left_alone():
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3, padding=1), torch.nn.Conv3d(2, 2, 1))
    in_plane(network)
    assert [type(module) for module in network] == [torch.nn.Conv3d] * 2


# Bundles


@pytest.mark.parametrize("name", list(TINY))
def test_a_bundle_trains_a_step_on_images_and_predicts_on_their_grid(name, images, tmp_path):
    settings = {
        **{"dataset_dir": str(images), "output_dir": str(tmp_path / "run"), "device": "cpu", "precision": "fp32"},
        **{"max_epochs": 1, "val_interval": 1, "crops_per_case": 1, "batch_size": 4, **TINY[name]},
    }
    checkpoint = train(BUNDLES / name, overrides=settings)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert 0 < run["history"][0]["loss"] < 10
    assert 0 <= run["history"][0]["dice"] <= 1
    cohort = Cohort.open(images)
    predictor = Predictor.from_bundle(BUNDLES / name, checkpoint=checkpoint, device="cpu")
    recipe = predictor.recipe
    assert recipe.roi_size == ([64, 64, 1] if name == "segformer" else [64, 48, 1])
    assert recipe.spacing_mm == [1, 1, 1]
    if name == "unet":
        assert recipe.network["kernel_size"] == [[3, 3, 1]] * len(recipe.network["strides"])
        assert recipe.network["strides"][1:] == [[2, 2, 1]] * (len(recipe.network["strides"]) - 1)
    if name == "segformer":
        assert recipe.network["context"] == 0, "there are no neighbours"
    for key in cohort.fold(0).validation:  # one of them larger than the window
        image = read_volume(cohort.image_paths(key)[0])
        prediction = predictor.predict(cohort.image_paths(key), key=key).label_map
        assert prediction.shape == image.shape
        assert np.array_equal(prediction.affine_ras, image.affine_ras)


@pytest.mark.parametrize("name", ["swinunetr", "unetr"])
def test_a_network_that_halves_the_slices_says_so_in_a_line(name, images, tmp_path):
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / name / "train.json"))
    given = {"bundle_root": str(BUNDLES / name), "dataset_dir": str(images), "output_dir": str(tmp_path)}
    parser.update({**given, "device": "cpu"})
    with pytest.raises(BundleError, match=r"are one slice.* such as the U-Net or Segformer$") as caught:
        preflight(parser)
    assert "\n" not in str(caught.value)


def test_slices_are_looked_at_along_the_axis_they_are_stacked_on(tiny_cohort, images):
    check_slices(Cohort.open(tiny_cohort), divisor=32)
    check_slices(Cohort.open(images), divisor=[32, 32, 1])
    with pytest.raises(BundleError, match="multiple of 2 voxels along Z"):
        check_slices(Cohort.open(images), divisor=[1, 1, 2])


def test_images_that_are_coarsened_are_told(images, tmp_path, caplog):
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / "unet" / "train.json"))
    given = {"bundle_root": str(BUNDLES / "unet"), "dataset_dir": str(images), "output_dir": str(tmp_path), "width": 4}
    parser.update({**given, "device": "cpu", "spacing_mm": [1.5, 1.5, 1.0], "roi_size": [32, 32, 1]})
    with caplog.at_level("INFO"):
        preflight(parser)
    assert "grid 1.5x1.5x1 mm; window 32x32x1" in caplog.text
    assert "images are worked on 1.50 times coarser than they are" in caplog.text
    assert "--spacing_mm [1,1,1] keeps the resolution" in caplog.text
