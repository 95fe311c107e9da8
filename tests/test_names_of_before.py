"""Whatever could be imported from volseg 0.1 before its modules moved can still be: modules, names, `$volseg.…`."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import warnings
from pathlib import Path
from pydoc import locate

import pytest
from monai.bundle import ConfigParser

import volseg
from volseg.inference import CascadePredictor, Predictor

# Each public name by its module, read from the sources of the commit before the moves.
NAMES = json.loads(Path(__file__).with_name("names_of_version_0_1.json").read_text(encoding="utf-8"))
# What train.json and inference.json of before say, in run folders and packs that people have.
SAID = [
    "volseg.bundle.data_dir",
    "volseg.bundle.fit_roi",
    "volseg.bundle.root",
    "volseg.cohort.Cohort.open",
    "volseg.conversion.open_cohort",
    "volseg.inference.Lanes",
    "volseg.inference.MixedPrecision",
    "volseg.inference.sliding_window",
    "volseg.labels.LabelTable.from_dataset_json",
    "volseg.networks.DenseUNet",
    "volseg.networks.SlicewiseNetwork",
    "volseg.networks.fit_divisor",
    "volseg.networks.fit_pyramid",
    "volseg.networks.in_plane",
    "volseg.recipe.Recipe",
    "volseg.recipe.read_recipe",
    "volseg.training.CachedDataset",
    "volseg.training.Order",
    "volseg.training.Record",
    "volseg.training.better",
    "volseg.training.dice_ce",
    "volseg.training.distributed",
    "volseg.training.join",
    "volseg.training.parameters",
    "volseg.training.warmup_cosine",
    "volseg.transforms.augmentation",
    "volseg.transforms.postprocessing",
    "volseg.transforms.preprocessing",
    "volseg.transforms.region_masks",
    "volseg.working_grid.fit_spacing",
]


@pytest.mark.filterwarnings("ignore:volseg.* is now:DeprecationWarning")
def test_every_public_name_of_before_is_there():
    lost = []
    for module, names in NAMES.items():
        found = importlib.import_module(module)
        lost += [f"{module}.{name}" for name in names.split() if not hasattr(found, name)]
    assert lost == []


@pytest.mark.filterwarnings("ignore:volseg.* is now:DeprecationWarning")
@pytest.mark.parametrize("name", SAID)
def test_what_bundles_of_before_say_is_found_by_monai(name):
    assert locate(name) is not None
    parser = ConfigParser({"imports": ["$import volseg"], "it": f"${name}"})
    parser.parse()
    parser.get_parsed_content("imports")
    assert parser.get_parsed_content("it") == locate(name)


def test_functions_that_nothing_uses_are_there_for_a_version():
    import numpy as np

    prediction, reference = np.array([True, True, True, False]), np.array([False, True, False, True])
    with pytest.warns(DeprecationWarning, match="volume_error_percent"):
        from volseg.metrics.overlap import relative_volume_difference
    assert relative_volume_difference(prediction, reference) == 0.5
    with pytest.warns(DeprecationWarning, match="is now volseg.metrics.surface_distances"):
        from volseg.metrics.surface import directed_distances_mm
    assert [one.tolist() for one in directed_distances_mm(prediction, reference, (2.0,))] == [[2, 2], [2, 2]]
    with pytest.raises(ImportError):
        from volseg.metrics.surface import nothing  # noqa: F401


def test_an_old_import_names_the_new_place():
    sys.modules.pop("volseg.recipe", None)
    with pytest.warns(DeprecationWarning, match=r"volseg.recipe is now volseg.bundle.recipe; import from there"):
        importlib.import_module("volseg.recipe")


def test_an_expression_of_a_bundle_of_before_warns_nobody():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert volseg.recipe.read_recipe is volseg.bundle.read_recipe


@pytest.mark.parametrize("name", ["volseg.nothing", "volseg.sources.nothing", "volseg.recipe.nothing"])
def test_what_never_was_is_not_found(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)


def test_both_names_are_one_class_in_a_fresh_process():
    code = (
        "from volseg.sources.uw_madison import UwMadison as a; from volseg.formats import UwMadison as b; print(a is b)"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "True\n"


@pytest.mark.parametrize(("room", "old"), [(room, old) for room, table in volseg._RENAMED.items() for old in table])
def test_a_name_that_was_changed_is_still_exported(room, old):
    new = volseg._RENAMED[room][old]
    face = importlib.import_module(f"volseg.{room}")
    assert old not in face.__all__
    if new in face.__all__:
        assert getattr(face, old) is getattr(face, new)
        assert locate(f"volseg.{room}.{old}") is getattr(face, new)


@pytest.mark.parametrize("kind", [Predictor, CascadePredictor])
@pytest.mark.parametrize(
    ("old", "new"),
    [("joined", "with_members"), ("read", "preprocess"), ("look", "infer"), ("decide", "postprocess")],
)
def test_a_method_of_before_is_the_one_of_today(kind, old, new):
    class Other(kind):
        """A predictor whose method tells that it was called."""

        def __init__(self) -> None: ...

    setattr(Other, new, lambda self, *arguments, **options: (arguments, options))
    with pytest.warns(DeprecationWarning, match=f"is now Other.{new}"):
        assert getattr(Other(), old)(1, key="a") == ((1,), {"key": "a"})
