"""The trained networks that come with volseg: small, with licence and source, and packed with the bundles of now."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from shipped_bundles import BUNDLES

from volseg.bundle import find, is_trained, read_recipe
from volseg.deploy.pack import pack

MOST_BYTES = 4 * 2**20
PACKAGES = sorted(path.parents[1] for path in BUNDLES.glob("[a-z]*/configs/train.json"))


def test_all_together_are_small() -> None:
    assert sum(path.stat().st_size for folder in PACKAGES for path in folder.rglob("*") if path.is_file()) < MOST_BYTES


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda path: path.name)
def test_a_package_is_packed_with_the_bundle_of_now(folder: Path, tmp_path: Path) -> None:
    """After a change of bundles/_base: the scripts `pack_hippocampus.sh` and `pack_phantom.sh`."""
    assert is_trained(find(folder))
    again = pack("dense_unet", checkpoint=folder / "models" / "model.pt", output=tmp_path / folder.name)
    for name in ("train.json", "inference.json", "evaluate.json"):
        assert (again / "configs" / name).read_text() == (folder / "configs" / name).read_text()
    pages = [
        (place / "docs" / "README.md").read_text().partition("## Train it further")[2] for place in (again, folder)
    ]
    first, second = (page.partition("\n## ")[0] for page in pages)
    assert first == second
    assert f"trainings go to `data/runs/{folder.name}`" in first, "a wheel's own files are never replaced"


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda path: path.name)
def test_a_package_tells_source_and_licence(folder: Path) -> None:
    card = json.loads((BUNDLES / "_base" / "cards" / f"{folder.name}.json").read_text())
    page = (folder / "docs" / "README.md").read_text()
    for text in (card["data"]["name"], card["data"]["licence"], card["weights_licence"], card["limits"]):
        assert text in page
    recipe = read_recipe(folder / "models" / "model.pt")
    assert recipe.facts["fold"] == "all", "trained on every case"
    assert "/" not in recipe.facts["cohort"], "no folder of the one who trained it"


@pytest.mark.skipif(not (BUNDLES / "hippocampus").is_dir(), reason="the hippocampus network is not packed yet")
def test_the_hippocampus_network_shows_its_out_of_fold_dice() -> None:
    metadata = json.loads((BUNDLES / "hippocampus" / "configs" / "metadata.json").read_text())
    scores = metadata["volseg"]["scores"]
    assert [one["cases"] for one in scores["folds"]] == [40] * 5
    assert scores["all"]["cases"] == 200
    assert 0.8 < scores["all"]["mean"]["dice"] < 1
    page = (BUNDLES / "hippocampus" / "docs" / "README.md").read_text()
    assert "| all | 200 |" in page
