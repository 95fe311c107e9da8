"""A patient's own network from his earlier days: a short training from the weights of a run."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from volseg.bundle import Recipe, find
from volseg.cohort import ADAPTED, Adaptation, Cohort, Session, sessions_of
from volseg.days.folder import adapted_path, read_json, write_json
from volseg.errors import UsageError

logger = logging.getLogger("volseg.days")

LAYERS = ("all", "decoder", "norms")
_RATE = 0.1  # of the run's learning rate
_DECAY = 0.95  # of the moving average
_CHECKS = 6  # looks at the held-out slab
_SLAB = 0.2  # share of the slices of the last session
_BASE_CASES = 4


@dataclass(frozen=True)
class Adapting:
    """What to adapt, and how.

    Attributes:
        run: Folder of a training, with `model.pt` and `train.json`.
        bundle: Name or folder of its bundle; None for the one that `train.json` states.
        cohort: Cohort with the patient's earlier days.
        patient: Patient.
        before: Session of the patient that no day on or after is learnt from; None for all days.
        minutes: Minutes of training; reading and resampling come before.
        layers: Layers that learn: `all`, `decoder` (the later half) or `norms`.
        base_share: Share of the windows that come from other patients, against forgetting, 0 to below 1.
        seed: Seed of the windows.
        device: Device; None for the best.
        cache_dir: Folder of the alignments; None for the cohort's own.
    """

    run: Path
    cohort: Cohort
    patient: str
    bundle: str | Path | None = None
    before: str | None = None
    minutes: float = 3.0
    layers: str = "all"
    base_share: float = 0.5
    seed: int = 0
    device: str | None = None
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        if self.layers not in LAYERS:
            raise UsageError(f"--layers must be one of {', '.join(LAYERS)}, got {self.layers!r}")
        if not 0 < self.minutes < math.inf:
            raise UsageError(f"--minutes must be a number above 0, got {self.minutes!r}")
        if not 0 <= self.base_share < 1:
            raise UsageError(f"--base-share must be from 0 to below 1, got {self.base_share!r}")

    @property
    def sessions(self) -> list[Session]:
        """The sessions that are learnt from, with a label, the earliest first.

        Raises:
            UsageError: There is no such patient or session, or no labelled day before it.
        """
        rows = self.cohort.rows.values()
        own = sessions_of(rows).get(self.patient)
        if own is None:
            some = ", ".join(sorted({row.patient for row in rows})[:3])
            raise UsageError(f"{self.cohort.folder} has no patient {self.patient}; name one such as {some}")
        if self.before is not None:
            names = [one.name for one in own]
            if self.before not in names:
                raise UsageError(f"{self.patient} has the sessions {', '.join(names)}, and no {self.before}")
            own = own[: names.index(self.before)]
        found = [replace(one, keys=tuple(key for key in one.keys if key in self.cohort.labelled)) for one in own]
        found = [one for one in found if one.keys]
        if not found:
            when = f" before {self.before}" if self.before is not None else ""
            raise UsageError(f"{self.patient} has no session with a label{when}, so there is nothing to adapt on")
        return found

    @property
    def adaptation(self) -> Adaptation:
        """What the network will have seen."""
        sessions = self.sessions
        return Adaptation(
            self.patient, tuple(one.name for one in sessions), tuple(key for one in sessions for key in one.keys)
        )

    @property
    def target(self) -> Path:
        """The checkpoint to write: `RUN/adapted/PATIENT/after_SESSION.pt`."""
        return adapted_path(self.run, self.patient, self.sessions[-1].name)


def adapt(work: Adapting, *, told: Callable[[str], None] | None = None) -> Path:
    """Adapt the network of a run to a patient; go on where an earlier call was stopped.

    The base run is not touched. A slab of slices of the last session is held out of the training, and the weights that
    do best on it are kept: those of the run themselves if nothing is gained.

    Args:
        work: What to adapt, and how.
        told: Function that is called with a line at each look at the slab.

    Returns:
        The checkpoint, see `Adapting.target`; its recipe says which sessions it has seen.

    Raises:
        UsageError: The run, the patient or his earlier days are absent.
        CheckpointError: The checkpoint of the run is damaged.
    """
    import torch

    from volseg.inference import Predictor
    from volseg.training import DeepSupervision, dice_ce

    base = work.run / "model.pt"
    config = read_json(work.run / "train.json") or {}
    bundle = find(work.bundle or str(config.get("bundle_root") or work.run.name))
    identity = _identity(work, base)
    target = work.target
    if _is_done(target, identity):
        return target
    torch.manual_seed(work.seed)
    predictor = Predictor.from_bundle(bundle, checkpoint=base, device=work.device)
    recipe, network, device = predictor.recipe, predictor.network, predictor.device
    missing = [name for name in recipe.labels.names if name not in work.cohort.labels.names]
    if missing or recipe.labels.digest != work.cohort.labels.digest:
        raise UsageError(f"{base} segments {', '.join(recipe.labels.names)}, and {work.cohort.folder} has other labels")
    slab = _Slab.of(work, recipe)
    own, others = _items(work, recipe, slab), _base_items(work, recipe)
    windows = _windows(work, recipe, own, others)
    rate = float(config.get("learning_rate") or 1e-3) * _RATE if _is_number(config.get("learning_rate")) else 1e-4
    parameters = _learning(network, work.layers)
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    loss_of = DeepSupervision(dice_ce(recipe.labels))
    state = _State(network, optimizer, target.with_suffix(".state"), identity)
    state.resume()
    if state.best_score is None:
        state.note(slab.dice(predictor, network))
        if told:
            told(f"before: Dice {state.best_score:.4f} on the held-out slab of {slab.key}")
    began = time.monotonic() - state.seconds
    for step, (image, label) in enumerate(windows, start=state.steps + 1):
        share = (time.monotonic() - began) / (60 * work.minutes)
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / 10) * (1 - 0.9 * share)
        network.train()
        loss = loss_of(network(image.to(device)), label.to(device))
        if not bool(torch.isfinite(loss)):
            logger.warning("%s: the loss is not finite at step %d; the weights before it are kept", target, step)
            break
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 12.0)
        optimizer.step()
        state.average()
        state.steps, state.seconds = step, time.monotonic() - began
        if share * _CHECKS >= state.checks:
            state.look(slab, predictor)
            if told:
                told(f"step {step}, {state.seconds:.0f} s: Dice {state.last_score:.4f} on the slab")
            began = time.monotonic() - state.seconds  # looking is no training
    state.look(slab, predictor)
    facts = {**recipe.facts, ADAPTED: work.adaptation.to_json(), "adapted_from": identity["base"]}
    final = replace(recipe, facts=facts)
    target.parent.mkdir(parents=True, exist_ok=True)
    _save({"model": state.best, "recipe": final.state_dict()}, target)
    write_json(
        target.with_suffix(".json"),
        {
            **work.adaptation.to_json(),
            "identity": identity,
            "steps": state.steps,
            "seconds": round(state.seconds, 1),
            "slab_before": state.first_score,
            "slab_after": state.best_score,
            "peak_memory_gib": _peak_gib(device),
        },
    )
    state.path.unlink(missing_ok=True)
    return target


def _identity(work: Adapting, base: Path) -> dict[str, Any]:
    """What decides about the weights: a finished or begun adaptation with another one is not taken."""
    if not base.is_file():
        raise UsageError(f"{work.run} holds no model.pt; name the folder of a training")
    files = []
    for key in work.adaptation.keys:
        label = work.cohort.label_path(key)
        for path in [*work.cohort.image_paths(key), *([label] if label else [])]:
            files.append([path.name, path.stat().st_size, path.stat().st_mtime_ns])
    return {
        "base": hashlib.sha256(base.read_bytes()).hexdigest(),
        "keys": list(work.adaptation.keys),
        "files": hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16],
        "settings": [work.minutes, work.layers, work.base_share, work.seed],
    }


def _is_done(target: Path, identity: Mapping[str, Any]) -> bool:
    told = read_json(target.with_suffix(".json"))
    return target.is_file() and told is not None and told.get("identity") == identity


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class _State:
    """Weights, their moving average, the best of it, and how far the training is; kept in a file."""

    def __init__(self, network: Any, optimizer: Any, path: Path, identity: Mapping[str, Any]) -> None:  # noqa: ANN401
        self.network, self.optimizer, self.path, self.identity = network, optimizer, path, dict(identity)
        self.mean = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.best = {name: value.clone() for name, value in self.mean.items()}
        self.best_score: float | None = None
        self.first_score: float | None = None
        self.last_score = 0.0
        self.steps = self.checks = 0
        self.seconds = 0.0

    def average(self) -> None:
        """Move the average towards the weights; what is no fraction, such as a counter, is copied."""
        decay = min(_DECAY, (1 + self.steps) / (10 + self.steps))
        for name, value in self.network.state_dict().items():
            kept = self.mean[name]
            if kept.is_floating_point():
                kept.mul_(decay).add_(value.detach(), alpha=1 - decay)
            else:
                kept.copy_(value)

    def note(self, score: float) -> None:
        """Keep the average if it is the best so far."""
        self.last_score = score
        self.first_score = score if self.first_score is None else self.first_score
        if self.best_score is None or score > self.best_score:
            self.best_score = score
            self.best = {name: value.clone() for name, value in self.mean.items()}

    def look(self, slab: _Slab, predictor: Any) -> None:  # noqa: ANN401
        """Score the average on the slab, and keep all of it in the file."""
        weights = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.mean)
        self.note(slab.dice(predictor, self.network))
        self.network.load_state_dict(weights)
        self.checks += 1
        self.path.parent.mkdir(parents=True, exist_ok=True)
        numbers = [self.best_score, self.first_score, self.last_score, self.steps, self.checks, self.seconds]
        told = json.dumps({"identity": self.identity, "numbers": numbers})
        content = {"network": weights, "mean": self.mean, "best": self.best, "optimizer": self.optimizer.state_dict()}
        _save({**content, "told": told}, self.path)

    def resume(self) -> None:
        """Go on from the file if it is of the same adaptation."""
        import torch

        if not self.path.is_file():
            return
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            told = json.loads(content["told"])
        except Exception:  # noqa: BLE001 - a damaged file raises errors of any kind; the training begins anew
            return
        if told["identity"] != self.identity:
            return
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.mean, self.best = content["mean"], content["best"]
        self.best_score, self.first_score, self.last_score, self.steps, self.checks, self.seconds = told["numbers"]
        logger.info("%s: goes on after %d steps", self.path, self.steps)


def _save(content: Mapping[str, Any], path: Path) -> None:
    import torch

    from volseg.files import atomic

    with atomic(path) as partial:
        torch.save(dict(content), partial)


def _learning(network: Any, layers: str) -> list[Any]:  # noqa: ANN401 - a network
    """The parameters that learn; the others keep their gradients off."""
    from torch import nn

    named = list(network.named_parameters())
    chosen = {name for name, _ in named}
    if layers == "decoder":
        chosen = {name for name, _ in named[len(named) // 2 :]}
    if layers == "norms":
        kinds = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
        modules = [name for name, module in network.named_modules() if isinstance(module, kinds)]
        chosen = {name for name, _ in named if name.rpartition(".")[0] in modules}
        chosen = chosen or {name for name, _ in named}
    for name, parameter in named:
        parameter.requires_grad_(name in chosen)
    return [parameter for name, parameter in named if name in chosen]


@dataclass(frozen=True, eq=False)
class _Slab:
    """The slices of the last session that are held out: image and masks of the whole case, and the slices."""

    key: str
    image: Any
    label: Any
    first: int
    last: int
    roi: tuple[int, ...]

    @classmethod
    def of(cls, work: Adapting, recipe: Recipe) -> _Slab:
        key = work.sessions[-1].keys[0]
        item = _preprocessed(work, recipe, key, roi=False)
        image, label = item["image"], item["label"]
        there = (label > 0).any(dim=0).flatten(0, 1).any(dim=0).nonzero().flatten().tolist() or [label.shape[-1] // 2]
        middle, half = (there[0] + there[-1]) // 2, max(1, round(_SLAB / 2 * (there[-1] - there[0] + 1)))
        first, last = max(0, middle - half), min(label.shape[-1], middle + half)
        return cls(key, image, label, first, last, tuple(int(n) for n in recipe.roi_size))

    def dice(self, predictor: Any, network: Any) -> float:  # noqa: ANN401
        """The mean Dice of the regions on the slab, which the network sees with its surroundings."""
        import torch

        network.eval()
        around = self.roi[2] // 2
        low, high = max(0, self.first - around), min(self.image.shape[-1], self.last + around)
        with torch.inference_mode():
            logits = predictor.inferer(self.image[None, ..., low:high].to(predictor.device), network)
        logits = logits[0, ..., self.first - low : self.last - low].cpu()
        label = self.label[..., self.first : self.last]
        if label.shape[0] == 1 and logits.shape[0] > 1:
            label = torch.stack([label[0] == n for n in range(1, logits.shape[0])])
            guess = torch.stack([logits.argmax(dim=0) == n for n in range(1, logits.shape[0])])
        else:
            label, guess = label > 0, logits > 0
        found = []
        for one, truth in zip(guess, label, strict=True):
            both = float(one.sum() + truth.sum())
            if both:
                found.append(2 * float((one & truth).sum()) / both)
        return sum(found) / len(found) if found else 1.0


def _preprocessed(work: Adapting, recipe: Recipe, key: str, *, roi: bool, seen: Sequence[str] = ()) -> dict[str, Any]:
    """A labelled case of the cohort on the network's grid, with the priors of the days that may be seen."""
    import torch

    from volseg.training import Priors
    from volseg.transforms import CORRECTED, preprocessing

    label = work.cohort.label_path(key)
    item: dict[str, Any] = {
        "key": key,
        "image": [str(path) for path in work.cohort.image_paths(key)],
        "label": str(label),
    }
    count = len(recipe.image_channels)
    schemes = None if recipe.normalisation is None else recipe.normalisation[:count]
    if recipe.takes_prior:
        priors = Priors(work.cohort, on=True, cache_dir=None if work.cache_dir is None else str(work.cache_dir))
        found = [priors.files(key, other, CORRECTED) for other in seen]
        item["prior"] = [one.to_json() for one in found if not one.registration.failure]
    steps = preprocessing(
        recipe.labels if not recipe.takes_prior else replace(recipe.labels, image_channels=recipe.image_channels),
        channels=count,
        spacing_mm=list(recipe.spacing_mm),
        roi_size=recipe.roi_size if roi else None,
        normalisation=schemes,
        prior=recipe.takes_prior,
    )
    done: dict[str, Any] = steps(item)
    for name in ("image", "label"):
        done[name] = done[name].as_tensor() if hasattr(done[name], "as_tensor") else torch.as_tensor(done[name])
    return done


def _items(work: Adapting, recipe: Recipe, slab: _Slab) -> list[dict[str, Any]]:
    """The earlier days of the patient to draw windows from, without the slab."""
    found = []
    sessions = work.sessions
    for session in sessions:
        others = [one.keys[0] for one in sessions if one is not session][-2:]
        for key in session.keys:
            item = _preprocessed(work, recipe, key, roi=True, seen=others)
            if key != slab.key:
                found.append(item)
                continue
            found += _without_slab(item, slab, recipe)
    return found


def _without_slab(item: Mapping[str, Any], slab: _Slab, recipe: Recipe) -> list[dict[str, Any]]:
    """The two parts of a case above and below the slab, padded to a window, with positions of their own."""
    from monai.transforms import SpatialPad

    from volseg.transforms import positions_of

    pad = (item["image"].shape[-1] - slab.label.shape[-1]) // 2  # padding of the preprocessing, half on either side
    parts = [slice(0, slab.first + pad), slice(slab.last + pad, item["image"].shape[-1])]
    found = []
    for part in parts:
        if part.stop - part.start < 2:
            continue
        padded = {
            name: SpatialPad(tuple(recipe.roi_size))(item[name][..., part].clone()) for name in ("image", "label")
        }
        padded = {name: value.as_tensor() if hasattr(value, "as_tensor") else value for name, value in padded.items()}
        found.append({**item, **padded, "label_positions": positions_of(padded["label"], recipe.labels)})
    return found


def _base_items(work: Adapting, recipe: Recipe) -> list[dict[str, Any]]:
    """Some cases of other patients that the run was trained on."""
    if work.base_share == 0:
        return []
    folder = Path(str(recipe.facts.get("cohort", "")))
    base = Cohort.open(folder) if (folder / "dataset.json").is_file() else work.cohort
    fold = int(recipe.facts.get("fold", 0))
    keys = list(base.fold(fold).training) if base.has_folds else sorted(base.labelled)
    keys = [key for key in keys if base.patient(key) != work.patient]
    if not keys:
        logger.warning("no case of another patient is at hand, so nothing is done against forgetting")
        return []
    step = max(1, len(keys) // _BASE_CASES)
    chosen = keys[work.seed % step :: step][:_BASE_CASES]
    of_base = replace(work, cohort=base)
    found = []
    for key in chosen:
        own = sessions_of(base.rows[one] for one in base.labelled)[base.patient(key)]
        others = [one.keys[0] for one in own if key not in one.keys][:1]
        found.append(_preprocessed(of_base, recipe, key, roi=True, seen=others))
    return found


def _windows(
    work: Adapting, recipe: Recipe, own: list[dict[str, Any]], others: list[dict[str, Any]]
) -> Iterator[tuple[Any, Any]]:
    """Batches of two windows without end, of the patient and of others by their share."""
    import numpy as np
    import torch

    from volseg.transforms import augmentation

    prior = None
    if recipe.takes_prior:
        prior = {
            "image_channels": len(recipe.image_channels),
            "regions": len(recipe.labels.names),
            "spacing_mm": list(recipe.spacing_mm),
            "dropout": 0.3,
        }
    steps = augmentation(recipe.labels, roi_size=list(recipe.roi_size), crops=1, prior=prior)
    steps.set_random_state(seed=work.seed)
    rng = np.random.default_rng(work.seed)
    while True:
        images, labels = [], []
        for _ in range(2):
            pool = others if others and rng.uniform() < work.base_share else own
            (window,) = steps(dict(pool[int(rng.integers(len(pool)))]))
            images.append(window["image"])
            labels.append(window["label"])
        yield torch.stack(images), torch.stack(labels)


def _peak_gib(device: Any) -> float | None:  # noqa: ANN401 - a torch.device
    from volseg.inference import peak_memory

    found = peak_memory(device)["resident_bytes"]
    return None if found is None else round(found / 2**30, 2)
