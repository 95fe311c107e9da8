"""What MONAI's engines lack: the preflight, the progress bar, the key metric and pictures."""

from volseg.training.average import Average
from volseg.training.cached_dataset import CachedDataset
from volseg.training.capacity import choose_cache, loader_workers
from volseg.training.checkpoints import Checkpoints
from volseg.training.deep_supervision import DeepSupervision
from volseg.training.dice import VolumetricDice, better
from volseg.training.gradients import Gradients
from volseg.training.loss import bce, dice_bce, dice_ce, dice_focal, tversky
from volseg.training.order import Order
from volseg.training.parameter_groups import parameters
from volseg.training.patience import Patience
from volseg.training.pictures import Pictures
from volseg.training.progress import Progress
from volseg.training.ranks import SharedLoss, distributed, join, leave, rank, rank_device
from volseg.training.record import Record
from volseg.training.resume import Resume
from volseg.training.schedule import constant, multi_step, one_cycle, polynomial, warmup_cosine
from volseg.training.seeds import Seeds
from volseg.training.stopwatch import Stopwatch
from volseg.training.time_limit import TimeLimit
from volseg.training.validation import Validation

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
    "tversky",
    "warmup_cosine",
]
