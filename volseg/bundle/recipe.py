"""The recipe of a network: the facts of its training that its use depends on, stored in the checkpoint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import volseg
from volseg.bundle.checkpoint_file import read_without_tensors
from volseg.bundle.damage import checkpoint_damage
from volseg.bundle.public_facts import without_folders
from volseg.errors import CheckpointError, UsageError, VolsegError
from volseg.files import atomic
from volseg.labels import RIGID, LabelTable, channel_order, image_channels, takes_prior
from volseg.volume import InputSpacing, check_normalisation

SAFETENSORS = ".safetensors"
LONGEST_IMAGE = "longest_image_mm"
"""Entry of a recipe's facts, see `Recipe.longest_image_mm`."""
WITHOUT_PRIOR = "without_prior"
"""Entry of a checkpoint of a network with a prior: weights and recipe of the network for cases that have none."""
_SCHEMA = 2
_BEFORE_SCHEMES = 1
"""Schema of a recipe without a normalisation, which earlier versions read too."""


@dataclass
class Recipe:
    """The facts that inference takes from the checkpoint and never from a default.

    Attributes:
        labels: Label table; its digest distinguishes one from another.
        channel_names: One name per image channel.
        spacing_mm: Spacing in mm that images are resampled to.
        roi_size: Window size in voxels of that grid.
        network: Arguments of the network that depend on the machine or the user, such as its width.
        facts: Further facts: the cohort, the fold, the initialisation.
        normalisation: Scheme of each channel with its constants, see `volseg.volume.ChannelNormalisation`; None for
            networks of before, whose channels were clipped to percentiles of each volume.

    >>> recipe = Recipe(LabelTable.exclusive(["organ"]), ["MR"], [1, 1, 3], [64, 64, 32], {"feature_size": 12})
    >>> Recipe.from_state(recipe.state_dict()).network["feature_size"]
    12
    """

    labels: LabelTable
    channel_names: Sequence[str]
    spacing_mm: Sequence[float]
    roi_size: Sequence[int]
    network: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    normalisation: Sequence[Mapping[str, Any]] | None = None

    def __post_init__(self) -> None:
        # The steps of inference are made from the table alone, and read the channels of a cohort by their names.
        self.labels = replace(self.labels.of_predictions, image_channels=tuple(self.channel_names))
        schemes = check_normalisation(self.normalisation, channels=len(self.channel_names))
        self.normalisation = None if schemes is None else [one.to_json() for one in schemes]
        # The text of inference.json hands the spacing on to the preprocessing, and with it the normalisation.
        self.spacing_mm = InputSpacing.of(self.spacing_mm, self.normalisation)

    @property
    def image_channels(self) -> tuple[str, ...]:
        """Names of the channels of the image to segment, without those of a prior."""
        return image_channels(self.channel_names)

    @property
    def takes_prior(self) -> bool:
        """Whether the network was trained to see an earlier day of the patient."""
        return takes_prior(self.channel_names)

    @property
    def prior_alignment(self) -> str:
        """How earlier days were aligned in the training, and are in inference: `rigid`, or `deformable` after it.

        Networks of before do not say it, and are `rigid`.
        """
        return str(self.facts.get("prior_alignment") or RIGID)

    @property
    def longest_image_mm(self) -> tuple[float, ...] | None:
        """The largest length in mm of the training images along right-left, anterior-posterior, superior-inferior.

        None for networks of before, which do not say it.
        """
        stated = self.facts.get(LONGEST_IMAGE)
        return tuple(float(mm) for mm in stated) if stated else None

    def state_dict(self) -> dict[str, str]:
        """The recipe as one JSON string, which `torch.load(weights_only=True)` accepts."""
        content = {
            "schema": _BEFORE_SCHEMES if self.normalisation is None else _SCHEMA,
            "volseg": volseg.__version__,
            "labels": self.labels.to_dataset_json(),
            "channel_names": list(self.channel_names),
            "spacing_mm": [float(mm) for mm in self.spacing_mm],
            "roi_size": [int(n) for n in self.roi_size],
            "network": dict(self.network),
            "facts": dict(self.facts),
        }
        if self.normalisation is not None:
            content["normalisation"] = self.normalisation
        return {"json": json.dumps(content)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Refuse a checkpoint that was trained with another label table, or with channels in another order."""
        stored = Recipe.from_state(state)
        if stored.labels.digest != self.labels.digest:
            raise CheckpointError(
                f"the checkpoint segments {list(stored.labels.names)}, this cohort has {list(self.labels.names)} "
                "with other names, values or in another order; train anew or name the cohort it was trained on"
            )
        try:
            order = channel_order(self.channel_names, stored.channel_names, source="this cohort")
        except UsageError as error:
            raise CheckpointError(error.message) from error
        if order != list(range(len(self.channel_names))):
            raise CheckpointError(
                f"the network takes the channels {', '.join(stored.channel_names)} and this cohort holds "
                f"{', '.join(self.channel_names)}; run `volseg predict` and `volseg evaluate`, which go by name"
            )

    @property
    def plan_digest(self) -> str:
        """Sixteen hexadecimal digits that differ between spacings, windows, channels, normalisations and networks."""
        content = json.loads(self.state_dict()["json"])
        plan = {name: value for name, value in content.items() if name not in ("volseg", "facts", "labels")}
        return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Recipe:
        """The inverse of `state_dict`."""
        try:
            content = json.loads(state["json"])
            if content["schema"] not in (_BEFORE_SCHEMES, _SCHEMA):
                raise CheckpointError(f"schema {content['schema']}, this volseg reads up to {_SCHEMA}: update volseg")
            return cls(
                LabelTable.from_dataset_json(content["labels"]),
                content["channel_names"],
                content["spacing_mm"],
                content["roi_size"],
                content["network"],
                content.get("facts", {}),
                content.get("normalisation"),
            )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, VolsegError) as error:
            raise CheckpointError(f"the checkpoint's recipe cannot be read ({error})") from error


def read_recipe(checkpoint: str | Path, *, part: str | None = None) -> Recipe:
    """Read the recipe inside a checkpoint file, with `weights_only=True`.

    Args:
        checkpoint: File.
        part: Name of a further network in the file, `WITHOUT_PRIOR`; None for its own.

    Raises:
        CheckpointError: The file is absent, damaged, a pickle that would run code, or not written by volseg.
    """
    path = Path(checkpoint)
    content = _without_tensors(path)
    if content is None:
        content = read_checkpoint(path)
    if part is not None and isinstance(content, dict):
        content = content.get(part)
    if isinstance(content, dict) and "recipe" not in content and {"network", "optimizer", "epoch"} <= set(content):
        beside = path.with_name("model.pt")
        cure = f"name {beside}" if beside.is_file() else "go on with --resume, which writes model.pt"
        raise CheckpointError(
            f"{path} is what an earlier volseg goes on from with --resume and states no labels, spacing or window; "
            f"{cure}"
        )
    if not isinstance(content, dict) or "recipe" not in content:
        raise CheckpointError(f"{path} holds no recipe, so it was not trained with volseg")
    return Recipe.from_state(content["recipe"])


def _without_tensors(path: Path) -> Any | None:  # noqa: ANN401 - whatever the file holds
    """What a `.pt` file holds beside its tensors; None if PyTorch has to read it.

    Raises:
        CheckpointError: The file is absent or cut short.
    """
    if not path.is_file():
        raise _absent(path)
    if path.suffix == SAFETENSORS:
        return None
    try:
        return read_without_tensors(path)
    except BadZipFile as error:
        raise CheckpointError(f"{path} cannot be loaded: {checkpoint_damage(path, error)}") from error


def _absent(path: Path) -> CheckpointError:
    """The error of a checkpoint that is not there; of a package that came without it the file of tensors is named."""
    tensors = path.with_suffix(SAFETENSORS)
    cure = f"name {tensors} with --checkpoint" if tensors.is_file() else "train first, or name one with --checkpoint"
    return CheckpointError(f"there is no checkpoint {path}; {cure}")


def weights_digest(checkpoint: str | Path) -> str:
    """Sixteen hexadecimal digits of the weights in a checkpoint, the same in every file that holds them.

    Raises:
        CheckpointError: The file is absent or damaged.
    """
    import torch

    content = read_checkpoint(checkpoint)
    try:
        weights = content["model"]
        digest = hashlib.sha256()
        for name, tensor in sorted(weights.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    except Exception as error:  # a damaged file raises errors of any kind
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0][:120]
        raise CheckpointError(f"{checkpoint} holds no weights that can be read ({reason})") from error
    return digest.hexdigest()[:16]


def read_checkpoint(checkpoint: str | Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Read a checkpoint file as it is: a `.pt` with `weights_only=True`, or a `.safetensors`.

    Of a `.safetensors` file the tensors are `model`, and `recipe` is what `write_safetensors` has put into its header.

    Raises:
        CheckpointError: The file is absent, damaged, or a pickle that would run code.
    """
    import torch

    path = Path(checkpoint)
    if not path.is_file():
        raise _absent(path)
    try:
        if path.suffix == SAFETENSORS:
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                told = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return _of_safetensors(tensors, told.get("volseg.recipe"))
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # a damaged file raises errors of any kind
        if path.suffix == SAFETENSORS:
            raise CheckpointError(f"{path} is cut short or no file of safetensors ({error}); copy it again") from error
        raise CheckpointError(f"{path} cannot be loaded: {checkpoint_damage(path, error)}") from error


def _of_safetensors(tensors: Mapping[str, Any], recipe: str | None) -> dict[str, Any]:
    """The content of a checkpoint from the tensors of a file and the recipe in its header, if there is one."""
    if recipe is None:
        return {"model": dict(tensors)}
    told = json.loads(recipe)
    other = told.pop(WITHOUT_PRIOR, None) if isinstance(told, dict) else None
    if other is None:
        return {"model": dict(tensors), "recipe": {"json": recipe}}
    prefix = f"{WITHOUT_PRIOR}."
    own = {name: value for name, value in tensors.items() if not name.startswith(prefix)}
    further = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return {
        "model": own,
        "recipe": {"json": json.dumps(told)},
        WITHOUT_PRIOR: {"model": further, "recipe": {"json": other}},
    }


def write_safetensors(checkpoint: str | Path, target: str | Path) -> Path:
    """Write the network of a checkpoint as `.safetensors`, which any program reads without running code.

    The recipe is text in the header, so that `volseg predict --checkpoint` takes the file like the checkpoint itself.
    Such a file is made to be given away: of a path in the recipe's facts only the last part is kept.

    Args:
        checkpoint: File of a training or of a package.
        target: File to write, which ends in `.safetensors`.

    Raises:
        CheckpointError: The checkpoint is absent, damaged, or not written by volseg.
        UsageError: The target has another ending.
    """
    from safetensors.torch import save

    path = Path(target)
    if path.suffix != SAFETENSORS:
        raise UsageError(f"{path} must end in {SAFETENSORS}")
    read_recipe(checkpoint)  # which says what is wrong with it
    content = read_checkpoint(checkpoint)
    # One entry: safetensors 0.8.0 writes several in an order of chance, and the same input must give the same bytes.
    recipe, tensors = _given_away(content["recipe"]["json"]), dict(content["model"])
    if WITHOUT_PRIOR in content:
        other = content[WITHOUT_PRIOR]
        recipe = json.dumps({**json.loads(recipe), WITHOUT_PRIOR: _given_away(other["recipe"]["json"])})
        tensors |= {f"{WITHOUT_PRIOR}.{name}": tensor for name, tensor in other["model"].items()}
    # Two names of one tensor are written as two.
    text = save(
        {name: tensor.clone().contiguous() for name, tensor in tensors.items()}, metadata={"volseg.recipe": recipe}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as partial:
        partial.write_bytes(text)
    return path


def _given_away(recipe: str) -> str:
    """The text of a recipe, without the folders of the one who trained its network."""
    told = json.loads(recipe)
    return json.dumps({**told, "facts": without_folders(told.get("facts", {}))})


def packed_recipe(checkpoint: str | Path, stated: Recipe) -> Recipe:
    """The recipe of a package: that of its checkpoint, which a further training may have replaced.

    Args:
        checkpoint: File of the weights.
        stated: Recipe that inference.json states in words, if that file is absent.
    """
    return read_recipe(checkpoint) if Path(checkpoint).is_file() else stated
