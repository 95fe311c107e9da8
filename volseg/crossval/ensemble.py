"""The ensemble folder of the chosen networks: one checkpoint per network and fold, and `ensemble.json`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import volseg
from volseg.bundle import ENSEMBLE, ENSEMBLE_SCHEMA
from volseg.cohort import Cohort
from volseg.crossval.folder import CrossvalFolder
from volseg.crossval.run import read_done
from volseg.crossval.scores import Candidate
from volseg.crossval.settings import CrossvalSettings
from volseg.files import atomic, link_or_copy
from volseg.labels import Cleanup


def write_ensemble(
    folder: CrossvalFolder,
    settings: CrossvalSettings,
    chosen: Candidate,
    cohort: Cohort,
    *,
    cleanup: Cleanup,
    facts: Mapping[str, Any],
) -> Path:
    """Write the folder that `volseg predict` takes in the place of a bundle, or as a checkpoint of it.

    Checkpoints are further names of the same files where the file system allows it, else copies. What an earlier call
    has chosen is removed.

    Args:
        folder: Folder of the cross-validation.
        settings: Settings of the cross-validation.
        chosen: Chosen networks.
        cohort: Cohort of the training.
        cleanup: Chosen clean-up.
        facts: Result of the choice, kept for readers.

    Returns:
        The ensemble folder.
    """
    target = folder.ensemble
    members: list[dict[str, Any]] = []
    for network in chosen.networks:
        for fold in settings.folds:
            name = f"{network}_fold_{fold}"
            done = read_done(folder, network, fold)
            _place(folder.network(network, fold), target / name / "model.pt")
            members.append(
                {
                    "bundle": network,
                    "bundle_folder": str(settings.networks[network]),
                    "fold": fold,
                    "checkpoint": f"{name}/model.pt",
                    "bytes": done["bytes"],
                    "sha256": done["sha256"],
                }
            )
    content = {
        "schema": ENSEMBLE_SCHEMA,
        "volseg": volseg.__version__,
        "members": members,
        "cleanup": cleanup.to_json(),
        "labels": cohort.labels.of_predictions.to_dataset_json()["labels"],
        "channel_names": list(cohort.channel_names),
        **facts,
    }
    with atomic(target / ENSEMBLE) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    _remove_others(target, [Path(member["checkpoint"]).parts[0] for member in members])
    return target


def _place(source: Path, target: Path) -> None:
    if target.is_file() and source.samefile(target):
        return
    link_or_copy(source, target)


def _remove_others(target: Path, names: Sequence[str]) -> None:
    for path in target.iterdir():
        if path.is_dir() and path.name not in names and "_fold_" in path.name:
            shutil.rmtree(path)
