"""A patient's own network from his earlier days: a short training from the weights of a run."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeGuard

from volseg.bundle import WITHOUT_PRIOR, find, read_checkpoint
from volseg.cohort import ADAPTED
from volseg.errors import UsageError
from volseg.files import atomic, read_json_object
from volseg.training.adaptation.state import State
from volseg.training.adaptation.windows import Slab, base_items, of_targets, own_items, windows_of
from volseg.training.adaptation.work import Adapting
from volseg.training.handlers.checkpoints import save
from volseg.training.losses import DeepSupervision, dice_ce
from volseg.training.start import heads_of

logger = logging.getLogger("volseg.training")

_RATE = 0.5  # of the run's learning rate; a tenth gained less in 120 steps, see docs/benchmarks/days.md
_VERSION = 3  # of the way of adapting; a network of another one is adapted anew
_USUAL = {"background_share": 1 / 3, "affine_prob": 0.7, "coarse_dropout": 0.0}  # of `volseg.transforms.augmentation`
_CHECKS = 6  # looks at the held-out slab


def adapt(work: Adapting, *, told: Callable[[str], None] | None = None) -> Path:
    """Adapt the network of a run to a patient; go on where an earlier call was stopped.

    The base run is not touched. A slab of the last session is held out of the training; the last weights are kept, or
    earlier ones, such as those of the run themselves, that do clearly better on it.

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

    from volseg.inference import MixedPrecision, ParallelWindows, Predictor

    base = work.run / "model.pt"
    config = read_json_object(work.run / "train.json") or {}
    bundle = find(work.bundle or str(config.get("bundle_root") or work.run.name))
    stated = config.get("prior_dropout") if config.get("prior") else None
    dropout = float(stated) if _is_number(stated) else None
    changes = _changes(config)
    identity = _identity(work, base, dropout=dropout, changes=changes)
    target = work.target
    if _is_done(target, identity):
        return target
    torch.manual_seed(work.seed)
    predictor = Predictor.from_bundle(bundle, checkpoint=base, device=work.device)
    recipe, network, device = predictor.recipe, predictor.network, predictor.device
    missing = [name for name in recipe.labels.names if name not in work.cohort.labels.names]
    if missing or recipe.labels.digest != work.cohort.labels.digest:
        raise UsageError(f"{base} segments {', '.join(recipe.labels.names)}, and {work.cohort.folder} has other labels")
    slab = Slab.of(work, recipe)
    own, others = own_items(work, recipe, slab), base_items(work, recipe)
    given = config.get("learning_rate")
    rate = _RATE * (given if _is_number(given) else 1e-3)
    parameters = _learning(network, work.layers, channels=recipe.labels.channels)
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.01)
    loss_of = DeepSupervision(dice_ce(of_targets(recipe.labels)))
    # As bundles train: a step in bfloat16 where the hardware has it, the windows side by side on the cores.
    forward = MixedPrecision(ParallelWindows(), precision="fp32" if config.get("precision") == "fp32" else "auto")
    state = State(network, optimizer, target.with_suffix(".state"), identity)
    state.resume()
    if state.best_score is None:
        state.note(slab.dice(predictor, network))
        if told:
            told(f"before: Dice {state.best_score:.4f} on the held-out slab of {slab.key}")
    began, processor_began = time.monotonic() - state.seconds, time.process_time()
    first = state.steps + 1
    windows = windows_of(work, recipe, own, others, first=first, dropout=dropout, changes=changes)
    for step, (image, label) in enumerate(windows, start=first):
        share = (time.monotonic() - began) / (60 * work.minutes) if work.steps is None else (step - 1) / work.steps
        if share >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, step / 10) * (1 - 0.9 * share)
        network.train()
        loss = loss_of(forward(image.to(device), network), label.to(device))
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
    plain = read_checkpoint(base).get(WITHOUT_PRIOR)  # other days of his may have no prior
    save({"model": state.best, "recipe": final.state_dict(), **({WITHOUT_PRIOR: plain} if plain else {})}, target)
    _write_json(
        target.with_suffix(".json"),
        {
            **work.adaptation.to_json(),
            "identity": identity,
            "steps": state.steps,
            "kept_after_steps": state.kept_step,
            "seconds": round(state.seconds, 1),
            "processor_seconds": round(time.process_time() - processor_began, 1),
            "slab_before": state.first_score,
            "slab_after": state.best_score,
            "peak_memory_gib": _peak_gib(device),
        },
    )
    state.path.unlink(missing_ok=True)
    return target


def _changes(config: Mapping[str, Any]) -> dict[str, Any]:
    """How the run drew and changed its windows, where that is not the usual way: arguments of `augmentation`.

    A network that saw mirror images goes on to see them: its predictions are averaged over them.

    Args:
        config: The run's `train.json`.
    """
    found: dict[str, Any] = {}
    axes = config.get("flip_axes")
    if isinstance(axes, list) and axes:
        found["flip_axes"] = [int(axis) for axis in axes]
    for name, usual in _USUAL.items():
        value = config.get(name)
        if _is_number(value) and value != usual:
            found[name] = float(value)
    return found


def _identity(work: Adapting, base: Path, *, dropout: float | None, changes: Mapping[str, Any]) -> dict[str, Any]:
    """What decides about the weights: a finished or begun adaptation with another one is not taken.

    Args:
        work: What to adapt, and how.
        base: Checkpoint of the run.
        dropout: Share of the windows without a prior; None if the run states none.
        changes: How the windows are drawn and changed, see `_changes`.
    """
    if not base.is_file():
        raise UsageError(f"{work.run} holds no model.pt; name the folder of a training")
    files = []
    for key in work.adaptation.keys:
        label = work.cohort.label_path(key)
        for path in [*work.cohort.image_paths(key), *([label] if label else [])]:
            files.append([path.name, path.stat().st_size, path.stat().st_mtime_ns])
    return {
        "version": _VERSION,
        "base": hashlib.sha256(base.read_bytes()).hexdigest(),
        "keys": list(work.adaptation.keys),
        "files": hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16],
        "settings": [work.minutes if work.steps is None else None, work.steps, work.layers, work.base_share, work.seed],
        **({} if dropout is None else {"prior_dropout": dropout}),
        **({"windows": dict(changes)} if changes else {}),
    }


def _is_done(target: Path, identity: Mapping[str, Any]) -> bool:
    told = read_json_object(target.with_suffix(".json"))
    return target.is_file() and told is not None and told.get("identity") == identity


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _learning(network: Any, layers: str, *, channels: int) -> list[Any]:  # noqa: ANN401 - a network
    """The parameters that learn; the others keep their gradients off."""
    from torch import nn

    named = list(network.named_parameters())
    chosen = {name for name, _ in named}
    if layers == "decoder":
        chosen = {name for name, _ in named[len(named) // 2 :]}
    if layers.startswith("norms"):
        kinds = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
        modules = [name for name, module in network.named_modules() if isinstance(module, kinds)]
        chosen = {name for name, _ in named if name.rpartition(".")[0] in modules}
        if layers == "norms+head":
            chosen |= heads_of(dict(named), channels)
        chosen = chosen or {name for name, _ in named}
    for name, parameter in named:
        parameter.requires_grad_(name in chosen)
    return [parameter for name, parameter in named if name in chosen]


def _peak_gib(device: Any) -> float | None:  # noqa: ANN401 - a torch.device
    from volseg.inference import peak_memory

    found = peak_memory(device)["resident_bytes"]
    return None if found is None else round(found / 2**30, 2)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
