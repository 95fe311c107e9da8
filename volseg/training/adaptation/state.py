"""Weights, their average and the best of it during an adaptation, in memory and in a file to go on from."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volseg.training.adaptation.windows import Slab
from volseg.training.handlers.checkpoints import save

logger = logging.getLogger("volseg.training")

_DECAY = 0.95  # of the moving average
CLEARLY = 0.02
"""Dice on the slab by which an earlier network must be better to be kept in place of a later one."""


class State:
    """Weights, their moving average, the best of it, and how far the training is; kept in a file."""

    def __init__(self, network: Any, optimizer: Any, path: Path, identity: Mapping[str, Any]) -> None:  # noqa: ANN401
        self.network, self.optimizer, self.path, self.identity = network, optimizer, path, dict(identity)
        self.mean = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.best = {name: value.clone() for name, value in self.mean.items()}
        self.best_score: float | None = None
        self.first_score: float | None = None
        self.last_score = self.top_score = 0.0
        self.steps = self.checks = self.kept_step = 0
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
        """Keep the average unless an earlier one was clearly better: the slab is small, and a later one saw more."""
        self.last_score = score
        self.first_score = score if self.first_score is None else self.first_score
        self.top_score = max(score, self.top_score)
        if self.best_score is None or score >= self.top_score - CLEARLY:
            self.best_score, self.kept_step = score, self.steps
            self.best = {name: value.clone() for name, value in self.mean.items()}

    def look(self, slab: Slab, predictor: Any) -> None:  # noqa: ANN401
        """Score the average on the slab, and keep all of it in the file."""
        weights = {name: value.detach().clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.mean)
        self.note(slab.dice(predictor, self.network))
        self.network.load_state_dict(weights)
        self.checks += 1
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scores = [self.best_score, self.first_score, self.last_score, self.top_score]
        numbers = [*scores, self.kept_step, self.steps, self.checks, self.seconds]
        told = json.dumps({"identity": self.identity, "numbers": numbers})
        content = {"network": weights, "mean": self.mean, "best": self.best, "optimizer": self.optimizer.state_dict()}
        save({**content, "told": told}, self.path)

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
        self.mean, self.best = (
            {name: value.to(self.mean[name].device) for name, value in content[part].items()}
            for part in ("mean", "best")
        )
        self.best_score, self.first_score, self.last_score, self.top_score, *rest = told["numbers"]
        self.kept_step, self.steps, self.checks, self.seconds = rest
        logger.info("%s: goes on after %d steps", self.path, self.steps)
