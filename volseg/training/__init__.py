"""Training with MONAI's trainer: losses, optimizers, schedules, sampling, handlers, cache, checks before the start."""

from __future__ import annotations

from volseg import names_of_before
from volseg.training.adaptation.adapt import adapt
from volseg.training.adaptation.work import LAYERS, Adapting
from volseg.training.cache import data_change, data_digests
from volseg.training.cache.dataset import CachedDataset
from volseg.training.checks.capacity import choose_cache, loader_workers
from volseg.training.corrected import corrected_datalist
from volseg.training.final_network import mirrored_axes, run_bytes, write_network
from volseg.training.handlers.checkpoints import Checkpoints
from volseg.training.handlers.optimization import Average, GradientClipping
from volseg.training.handlers.pictures import ValidationPictures
from volseg.training.handlers.progress import Progress, Stopwatch
from volseg.training.handlers.record import Record
from volseg.training.handlers.resume import Resume
from volseg.training.handlers.sequence import Handlers, RaiseErrors
from volseg.training.handlers.stopping import Patience, TimeLimit
from volseg.training.handlers.tracking import Tracking
from volseg.training.handlers.validation import Validation, VolumetricDice, nan_safe_greater
from volseg.training.loading import LoaderAhead
from volseg.training.losses import DeepSupervision, bce, dice_bce, dice_ce, dice_focal, tversky
from volseg.training.optimizers import optimizer_groups
from volseg.training.planning import make_plan
from volseg.training.priors import Priors
from volseg.training.process_group import (
    SharedLoss,
    destroy_process_group,
    distributed,
    init_process_group,
    rank,
    rank_device,
)
from volseg.training.run import train
from volseg.training.sampling import BatchOrder, EpochSeeds
from volseg.training.schedules import constant_schedule, multi_step, one_cycle, polynomial, warmup_cosine
from volseg.training.settings import Settings
from volseg.training.start import is_trained_network, start_from
from volseg.training.without_prior import NetworkWithoutPrior

__all__ = [
    "LAYERS",
    "Adapting",
    "Average",
    "BatchOrder",
    "CachedDataset",
    "Checkpoints",
    "DeepSupervision",
    "EpochSeeds",
    "GradientClipping",
    "Handlers",
    "LoaderAhead",
    "NetworkWithoutPrior",
    "Patience",
    "Priors",
    "Progress",
    "RaiseErrors",
    "Record",
    "Resume",
    "Settings",
    "SharedLoss",
    "Stopwatch",
    "TimeLimit",
    "Tracking",
    "Validation",
    "ValidationPictures",
    "VolumetricDice",
    "adapt",
    "bce",
    "choose_cache",
    "constant_schedule",
    "corrected_datalist",
    "data_change",
    "data_digests",
    "destroy_process_group",
    "dice_bce",
    "dice_ce",
    "dice_focal",
    "distributed",
    "init_process_group",
    "is_trained_network",
    "loader_workers",
    "make_plan",
    "mirrored_axes",
    "multi_step",
    "nan_safe_greater",
    "one_cycle",
    "optimizer_groups",
    "polynomial",
    "rank",
    "rank_device",
    "run_bytes",
    "start_from",
    "train",
    "tversky",
    "warmup_cosine",
    "write_network",
]

__getattr__ = names_of_before(__name__)
