"""The key metric of validation: the mean volumetric Dice, with explicit rules for empty regions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.engines import Evaluator
from monai.handlers import ValidationHandler
from torch import Tensor

from volseg.errors import UsageError
from volseg.labels import LabelTable
from volseg.training.handlers.checkpoints import Checkpoints
from volseg.training.handlers.stopping import check_interval


class VolumetricDice(Metric):  # type: ignore[misc]  # ignite has no types
    """Dice of each whole volume and region, averaged over cases, then over regions.

    If a region is empty in reference and prediction, the case does not count for the mean of that region; a region that
    is missed or invented counts 0. A region that no reference has is undefined (NaN) and left out of the mean, whatever
    a network predicts: otherwise the first network that finds nothing there would be the best. (MONAI's DiceMetric
    aggregates to 0 if every case is empty.) Beside the mean, `engine.state.metrics` gets one value per region,
    `NAME_REGION`.

    Processes that train together share the cases; a case that two of them took, to make the batches even, counts once.

    Args:
        labels: Label table.
        output_transform: Function that gives (predictions, references), lists of bool masks (R, X, Y, Z); the keys are
            in the batch.
    """

    def __init__(self, labels: LabelTable, output_transform: Callable[[Any], Any] = lambda output: output) -> None:
        self.labels = labels
        self._scores: dict[str, list[float]] = {}
        self._gathered: dict[str, list[float]] = {}
        self._present: dict[str, list[bool]] = {}  # whether the reference of a case has each region
        super().__init__(output_transform)

    def reset(self) -> None:
        """Forget all cases."""
        self._scores = {}
        self._present = {}

    def iteration_completed(self, engine: Engine) -> None:
        """Add the cases of a batch, which MONAI has split."""
        # MONAI Label 0.8.5 trains on items of image and label alone: such a case gets a key of its own.
        names = (f"{idist.get_rank()}-{len(self._scores) + number}" for number in range(len(engine.state.batch)))
        keys = [str(item.get("key", name)) for item, name in zip(engine.state.batch, names, strict=True)]
        self.update((*self._output_transform(engine.state.output), keys))

    def update(self, output: tuple[Sequence[Tensor], Sequence[Tensor], Sequence[str]]) -> None:
        """Add cases."""
        for prediction, reference, key in zip(*output, strict=True):
            axes = tuple(range(1, prediction.ndim))
            both = (prediction & reference).sum(axes).double()
            there = reference.sum(axes)
            sizes = prediction.sum(axes).double() + there.double()
            self._present[key] = (there > 0).tolist()
            self._scores[key] = (2 * both / sizes).tolist()  # 0 / 0 is NaN: empty in both

    def compute(self) -> float:
        """The mean over regions; NaN if no case had any region."""
        means = [mean for mean in self.by_region().values() if not math.isnan(mean)]
        return sum(means) / len(means) if means else math.nan

    def by_region(self) -> dict[str, float]:
        """Mean Dice of each region over the cases that have it; NaN if no reference has it."""
        scores, present = self._scores, self._present
        if idist.get_world_size() > 1:
            parts = idist.all_gather((self._scores, self._present))
            scores = {key: row for part, _ in parts for key, row in part.items()}
            present = {key: row for _, part in parts for key, row in part.items()}
        known = [any(row[number] for row in present.values()) for number in range(len(self.labels.names))]
        self._gathered = {
            key: [value if is_known else math.nan for value, is_known in zip(row, known, strict=True)]
            for key, row in scores.items()
        }
        rows = [self._gathered[key] for key in sorted(self._gathered)]
        table = torch.tensor(rows, dtype=torch.float64).reshape(-1, len(self.labels.names))
        return dict(zip(self.labels.names, table.nanmean(dim=0).tolist(), strict=True))

    def by_case(self) -> dict[str, dict[str, float]]:
        """Dice of each case and region at the last `compute`, by key; NaN if it is undefined."""
        return {key: dict(zip(self.labels.names, self._gathered[key], strict=True)) for key in sorted(self._gathered)}

    def completed(self, engine: Engine, name: str) -> None:
        """Store the mean and each region's value."""
        engine.state.metrics[name] = self.compute()
        for region, value in self.by_region().items():
            engine.state.metrics[f"{name}_{region}"] = value


def nan_safe_greater(current: float, best: float) -> bool:
    """Whether a validation is better than the best so far; an undefined mean (NaN) never is.

    >>> nan_safe_greater(0.8, 0.7), nan_safe_greater(float("nan"), -1.0), nan_safe_greater(0.1, float("nan"))
    (True, False, True)
    """
    return not math.isnan(current) and (math.isnan(best) or current > best)


class Validation(ValidationHandler):  # type: ignore[misc]  # MONAI has no types
    """MONAI's handler, which also runs after the last epoch, when the learning rate is lowest and the network best.

    Without that, 19 epochs with a validation every 5 would end with four epochs without a checkpoint.

    A training of all cases (`--fold all`) has none to validate on. The evaluator is then not run, and the network is
    saved without a score, at the same epochs.

    Args:
        evaluator: Evaluator, which is run with the number of the epoch.
        interval: Number of epochs between validations, 1 by default.
        every: `interval` in the train.json of version 0.1.
        checkpoints: Checkpoints of a training without a case to validate on.

    Raises:
        UsageError: The interval is below 1; or, in training, there is no case to validate on, and no `checkpoints`, as
            in earlier train.json files.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        *,
        interval: int = 1,
        every: int | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        super().__init__(check_interval(interval if every is None else every, "validation_handler"), evaluator)
        self.checkpoints = checkpoints

    def attach(self, engine: Engine) -> None:
        """Attach the handler to a trainer."""
        if self._unscored and self.checkpoints is None:
            raise UsageError(
                "there is no case to validate on, and this train.json hands validation_handler no checkpoints; train "
                "with a fold, or with a bundle of this version of volseg"
            )
        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=self._is_due), self)

    def __call__(self, engine: Engine) -> None:
        """Validate, or save the network where there is no case to validate on."""
        if self._unscored and self.checkpoints is not None:
            self.checkpoints.save_unscored(self.validator, engine.state.epoch)
        else:
            super().__call__(engine)

    @property
    def _unscored(self) -> bool:
        return getattr(getattr(self.validator, "state", None), "epoch_length", None) == 0

    def _is_due(self, engine: Engine, epoch: int) -> bool:
        return bool(epoch % self.interval == 0 or epoch == engine.state.max_epochs)
