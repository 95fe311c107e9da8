"""The inference of a bundle in values, if its `inference.json` is one of volseg's own; none of it is run."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from volseg import bundle as bundles
from volseg.bundle import Recipe, read_recipe

# What every bundle of volseg states, word by word. Anything else is the user's own, and MONAI runs it.
_OWN = {
    "imports": ["$import torch", "$import volseg"],
    "bundle_root": "$volseg.bundle.root()",
    "data_dir": "$volseg.bundle.data_dir(@bundle_root)",
    "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
    "gpu": "$torch.device(@device).type == 'cuda'",
    "labels": "$@recipe.labels",
    "network": "$volseg.networks.in_plane(@network_def).to(@device)",
    "preprocessing": "$volseg.transforms.preprocessing(@labels, channels=len(@recipe.channel_names), "
    "spacing_mm=@recipe.spacing_mm, label=False)",
    "inferer": "$volseg.inference.sliding_window(@recipe.roi_size, overlap=@overlap, "
    "windows_at_once=4 if @gpu else 1, precision=@precision, background=@labels.background_logits if @skip_empty "
    "else None)",
    "postprocessing": "$volseg.transforms.postprocessing(@labels, @preprocessing, output_dir=@output_dir, "
    "cleanup=@cleanup, save_probabilities=@save_probabilities)",
}
# The settings that a user may change, and what they may be.
_SETTINGS: dict[str, type | tuple[type, ...]] = {
    "precision": str,
    "overlap": (int, float),
    "skip_empty": bool,
    "cleanup": dict,
    "save_probabilities": bool,
}
_READ = "$volseg.recipe.read_recipe(@checkpoint)", "$volseg.bundle.read_recipe(@checkpoint)"


@dataclass(frozen=True)
class ArraySettings:
    """The settings of one network's inference.

    Attributes:
        folder: Folder of the bundle.
        checkpoint: File of the weights.
        own: Whether that is the bundle's own.
        precision: `auto`, `fp32` or `bf16`.
        overlap: Fraction of a window that its neighbour covers.
        skip_empty: Whether windows of air are left out.
        cleanup: Clean-up of the label map.
        save_probabilities: Whether the probabilities are written.
        decision: Rule of the decision.
    """

    folder: Path
    checkpoint: Path
    own: bool
    precision: str = "auto"
    overlap: float = 0.5
    skip_empty: bool = True
    cleanup: Mapping[str, Any] = field(default_factory=dict)
    save_probabilities: bool = False
    decision: str = "threshold"

    @functools.cached_property
    def recipe(self) -> Recipe:
        """Recipe in the checkpoint; errors as in `read_recipe`."""
        return read_recipe(self.checkpoint)


def own_settings(
    bundle: str | Path, *, checkpoint: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> ArraySettings | None:
    """Read the settings of a bundle; None if the bundle or an override is not volseg's own.

    Args:
        bundle: Name or folder of the bundle.
        checkpoint: File of the weights; the bundle's own by default.
        overrides: Settings and their values, and `decision`.

    Raises:
        BundleError: There is no such bundle.
    """
    folder = bundles.find(bundle)
    content = bundles.read_config(folder, "inference.json")
    if any(content.get(name) != stated for name, stated in _OWN.items()):
        return None
    if content.get("recipe") not in _READ and not _is_packed(content):
        return None
    changed = dict(overrides or {})
    decision = str(changed.pop("decision", "threshold"))
    values = {name: changed.pop(name, content.get(name)) for name in _SETTINGS}
    if changed or any(not isinstance(values[name], kind) for name, kind in _SETTINGS.items()):
        return None
    path = Path(checkpoint) if checkpoint is not None else bundles.stated_checkpoint(folder, content)
    return None if path is None else ArraySettings(folder, path, checkpoint is None, decision=decision, **values)


def _is_packed(content: Mapping[str, Any]) -> bool:
    """Whether the recipe is stated as values, as `volseg pack` writes it: its checkpoint holds the same."""
    if content.get("recipe") == "$volseg.bundle.packed_recipe(@checkpoint, @stated_recipe)":
        return True
    recipe = content.get("recipe")
    return isinstance(recipe, Mapping) and recipe.get("_target_") == "volseg.bundle.Recipe"
