"""Training with MONAI's trainer: losses, optimizers, schedules, sampling, handlers, cache, checks before the start."""

from __future__ import annotations

from volseg.training.cache.dataset import CachedDataset
from volseg.training.checks.capacity import choose_cache, loader_workers
from volseg.training.handlers.checkpoints import Checkpoints
from volseg.training.handlers.optimization import Average, Gradients
from volseg.training.handlers.pictures import Pictures
from volseg.training.handlers.progress import Progress, Stopwatch
from volseg.training.handlers.record import Record
from volseg.training.handlers.resume import Resume
from volseg.training.handlers.stopping import Patience, TimeLimit
from volseg.training.handlers.validation import Validation, VolumetricDice, better
from volseg.training.losses import DeepSupervision, bce, dice_bce, dice_ce, dice_focal, tversky
from volseg.training.optimizers import parameters
from volseg.training.process_group import SharedLoss, distributed, join, leave, rank, rank_device
from volseg.training.run import train
from volseg.training.sampling import Order, Seeds
from volseg.training.schedules import constant, multi_step, one_cycle, polynomial, warmup_cosine

__all__ = [
    "Average",
    "CachedDataset",
    "Checkpoints",
    "DeepSupervision",
    "Gradients",
    "Order",
    "Patience",
    "Pictures",
    "Progress",
    "Record",
    "Resume",
    "Seeds",
    "SharedLoss",
    "Stopwatch",
    "TimeLimit",
    "Validation",
    "VolumetricDice",
    "bce",
    "better",
    "choose_cache",
    "constant",
    "dice_bce",
    "dice_ce",
    "dice_focal",
    "distributed",
    "join",
    "leave",
    "loader_workers",
    "multi_step",
    "one_cycle",
    "parameters",
    "polynomial",
    "rank",
    "rank_device",
    "train",
    "tversky",
    "warmup_cosine",
]
