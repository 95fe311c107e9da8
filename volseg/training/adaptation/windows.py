"""The windows that an adapted network learns from, and the slab that is held out of them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from volseg.bundle import Recipe
from volseg.cohort import ALL, Cohort, Fold, sessions_of
from volseg.labels import LabelTable
from volseg.training.adaptation.work import Adapting

logger = logging.getLogger("volseg.training")

_SLAB = 0.2  # share of the extent of the regions in the last session
_BASE_CASES = 4


@dataclass(frozen=True, eq=False)
class Slab:
    """The slab of the last session that is held out: image and masks of the whole case, and where the slab lies.

    It goes through the middle of the regions, across the axis along which what is left on either side is largest beside
    a window, so that windows of the two parts need the least padding.
    """

    key: str
    image: Any
    label: Any
    axis: int
    first: int
    last: int
    roi: tuple[int, ...]

    @classmethod
    def of(cls, work: Adapting, recipe: Recipe) -> Slab:
        """The slab of the last session of the patient, shown as a day of his is: with the session before it."""
        from volseg.transforms import IGNORED

        *before, last_session = work.sessions
        key = last_session.keys[0]
        item = _preprocessed(work, recipe, key, roi=False, seen=[one.keys[0] for one in before[-1:]])
        image, label, roi = item["image"], item["label"], tuple(int(n) for n in recipe.roi_size)
        there = ((label > 0) & (label != IGNORED)).any(dim=0)
        axes = []
        for axis in range(3):
            first, last = _middle(there, axis)
            parts = [part / roi[axis] for part in (first, there.shape[axis] - last)]
            axes.append((sum(min(1.0, part) for part in parts), sum(parts), axis, first, last))
        *_, axis, first, last = max(axes)
        return cls(key, image, label, axis, first, last, roi)

    def dice(self, predictor: Any, network: Any) -> float:  # noqa: ANN401
        """The Dice of all regions together on the slab, which the network sees with its surroundings.

        Together, since a slab may hold a few voxels of a region, whose own Dice would be chance. Voxels that nobody
        looked at do not count.
        """
        import torch

        from volseg.transforms import IGNORED

        network.eval()
        around = self.roi[self.axis] // 2
        low, high = max(0, self.first - around), min(self.image.shape[1 + self.axis], self.last + around)
        with torch.inference_mode():
            seen = self.image.narrow(1 + self.axis, low, high - low)[None]
            logits = predictor.inferer(seen.to(predictor.device), network)
        length = self.last - self.first
        logits = logits[0].narrow(1 + self.axis, self.first - low, length).cpu()
        label = self.label.narrow(1 + self.axis, self.first, length)
        counted = label[:1] != IGNORED
        if label.shape[0] == 1 and logits.shape[0] > 1:
            label = torch.stack([label[0] == n for n in range(1, logits.shape[0])])
            guess = torch.stack([logits.argmax(dim=0) == n for n in range(1, logits.shape[0])])
        else:
            label, guess = label > 0, logits > 0
        label, guess = label & counted, guess & counted
        both = float(guess.sum() + label.sum())
        return 2 * float((guess & label).sum()) / both if both else 1.0


def _middle(there: Any, axis: int) -> tuple[int, int]:  # noqa: ANN401
    """The middle fifth of what is True along an axis; of the whole axis if nothing is."""
    others = [one for one in range(3) if one != axis]
    size = there.shape[axis]
    places = there.amax(dim=others).nonzero().flatten().tolist() or [0, size - 1]
    middle, half = (places[0] + places[-1]) // 2, max(1, round(_SLAB / 2 * (places[-1] - places[0] + 1)))
    return max(0, middle - half), min(size, middle + half)


def _preprocessed(work: Adapting, recipe: Recipe, key: str, *, roi: bool, seen: Sequence[str] = ()) -> dict[str, Any]:
    """A labelled case of the cohort on the network's grid, with the priors of the days that may be seen."""
    import torch

    from volseg.training.priors import Priors
    from volseg.transforms import CORRECTED, preprocessing

    label = work.cohort.label_path(key)
    item: dict[str, Any] = {
        "key": key,
        "image": [str(path) for path in work.cohort.image_paths(key)],
        "label": str(label),
    }
    count = len(recipe.image_channels)
    # A network looks at every voxel, so its table lacks the value of those that nobody looked at.
    declared = work.cohort.labels
    labels = replace(recipe.labels, ignore=declared.ignore if declared.digest == recipe.labels.digest else None)
    schemes = None if recipe.normalisation is None else recipe.normalisation[:count]
    if recipe.takes_prior:
        cache = None if work.cache_dir is None else str(work.cache_dir)
        priors = Priors(work.cohort, on=True, cache_dir=cache, alignment=recipe.prior_alignment)
        widths = dict((recipe.facts.get("prior") or {}).get("widths_mm", {}))
        found = [priors.files(key, other, CORRECTED, widths_mm=widths) for other in seen]
        item["prior"] = [one.to_json() for one in found if not one.registration.failure]
    steps = preprocessing(
        labels if not recipe.takes_prior else replace(labels, image_channels=recipe.image_channels),
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


def of_targets(labels: LabelTable) -> LabelTable:
    """The table of targets, in which voxels that nobody looked at are `IGNORED`, whatever value a cohort has for them.

    Args:
        labels: Label table of the network.
    """
    from volseg.transforms import IGNORED

    return labels if labels.values[-1] >= IGNORED else replace(labels, ignore=IGNORED)


def own_items(work: Adapting, recipe: Recipe, slab: Slab) -> list[dict[str, Any]]:
    """The earlier days of the patient to draw windows from, without the slab.

    Further scans of the slab's session are left out: they show the same contours, and the slab would not be held out.
    """
    found = []
    sessions = work.sessions
    for session in sessions:
        others = [one.keys[0] for one in sessions if one is not session][-2:]
        for key in session.keys if slab.key not in session.keys else [slab.key]:
            item = _preprocessed(work, recipe, key, roi=True, seen=others)
            if key != slab.key:
                found.append(item)
                continue
            found += _without_slab(item, slab, recipe)
    return found


def _without_slab(item: Mapping[str, Any], slab: Slab, recipe: Recipe) -> list[dict[str, Any]]:
    """The two parts of a case on either side of the slab, padded to a window, with positions of their own."""
    from monai.transforms import SpatialPad

    from volseg.transforms import positions_of

    along = 1 + slab.axis
    size = item["image"].shape[along]
    pad = (size - slab.label.shape[along]) // 2  # padding of the preprocessing, half on either side
    found = []
    for low, high in ((0, slab.first + pad), (slab.last + pad, size)):
        if high - low < 2:
            continue
        padded = {
            name: SpatialPad(tuple(recipe.roi_size))(item[name].narrow(along, low, high - low).clone())
            for name in ("image", "label")
        }
        padded = {name: value.as_tensor() if hasattr(value, "as_tensor") else value for name, value in padded.items()}
        found.append({**item, **padded, "label_positions": positions_of(padded["label"], of_targets(recipe.labels))})
    return found


def base_items(work: Adapting, recipe: Recipe) -> list[dict[str, Any]]:
    """Some cases of other patients that the run was trained on."""
    if work.base_share == 0:
        return []
    folder = Path(str(recipe.facts.get("cohort", "")))
    base = Cohort.open(folder) if (folder / "dataset.json").is_file() else work.cohort
    keys = list(_fold_of(base, recipe).training)
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


def _fold_of(base: Cohort, recipe: Recipe) -> Fold:
    """The fold of the run; of a cohort that has no such fold, all cases that are not suspect or kept for a test."""
    stated = recipe.facts.get("fold", 0)
    known = base.has_folds and stated != ALL and int(stated) < len(base.folds())
    return base.fold(int(stated) if known else ALL)


def windows_of(
    work: Adapting,
    recipe: Recipe,
    own: list[dict[str, Any]],
    others: list[dict[str, Any]],
    *,
    first: int = 1,
    dropout: float | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Iterator[tuple[Any, Any]]:
    """Batches of two windows without end, of the patient and of others by their share.

    The generators of a step, torch's own among them, start from (seed, step), as those of a training do from (seed,
    epoch): an adaptation that goes on draws what an unbroken one does.

    Args:
        work: What to adapt, and how.
        recipe: Recipe of the network.
        own: Days of the patient, see `own_items`.
        others: Cases of other patients, see `base_items`.
        first: Number of the step that the first batch is for, from 1.
        dropout: Share of the windows that are shown without a prior, for a network that takes one; None for the usual.
        changes: Arguments of `volseg.transforms.augmentation`, such as `flip_axes`, where the run had other ones.
    """
    import numpy as np
    import torch

    from volseg.transforms import augmentation

    prior = None
    if recipe.takes_prior:
        from volseg.training.priors import PRIOR_DROPOUT

        prior = {
            "image_channels": len(recipe.image_channels),
            "regions": len(recipe.labels.names),
            "spacing_mm": list(recipe.spacing_mm),
            "dropout": PRIOR_DROPOUT if dropout is None else dropout,
        }
    form: dict[str, Any] = {"roi_size": list(recipe.roi_size), "spacing_mm": list(recipe.spacing_mm), "prior": prior}
    steps = augmentation(recipe.labels, crops=1, **form, **(changes or {}))
    for step in count(first):
        of_choice, of_steps, of_torch = map(int, np.random.SeedSequence([work.seed, step]).generate_state(3))
        rng = np.random.default_rng(of_choice)
        steps.set_random_state(seed=of_steps)
        torch.manual_seed(of_torch)
        images, labels = [], []
        for _ in range(2):
            pool = others if others and rng.uniform() < work.base_share else own
            (window,) = steps(dict(pool[int(rng.integers(len(pool)))]))
            images.append(window["image"])
            labels.append(window["label"])
        yield torch.stack(images), torch.stack(labels)
