"""What a cross-validation will take: minutes and bytes, said before it starts, and the time that is left."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from volseg.cohort import Cohort
from volseg.crossval.folder import CrossvalFolder
from volseg.crossval.run import is_done
from volseg.crossval.settings import CrossvalSettings

GIB = 2**30
_OVERHEAD = 1.1  # of the minutes of a training: loading, the last validation, the prediction of the fold
_SHARE_OF_PROBABILITIES = 0.3  # of 16 bits per voxel and channel, once compressed


@dataclass(frozen=True)
class Forecast:
    """The work of a cross-validation.

    Attributes:
        jobs: Number of folds of all networks.
        left: Number of these that are not finished.
        minutes: Minutes until all are trained and predicted, by as many workers as there are; None without a limit.
        disk_bytes: Bytes that the folder will take at most while it grows.
        weights_bytes: Bytes of the weights by network.
    """

    jobs: int
    left: int
    minutes: float | None
    disk_bytes: int
    weights_bytes: Mapping[str, int]

    @property
    def text(self) -> str:
        """One line for the reader."""
        time = "as long as the bundles' epochs take" if self.minutes is None else f"about {duration(self.minutes)}"
        before = f", {self.jobs - self.left} finished before" if self.left < self.jobs else ""
        return f"{self.left} trainings{before}: {time}; up to {self.disk_bytes / GIB:.1f} GiB on the disk"


def forecast(
    folder: CrossvalFolder,
    settings: CrossvalSettings,
    cohort: Cohort,
    *,
    workers: int,
    jobs: Sequence[tuple[str, int]],
    bytes_of_run: Mapping[str, tuple[int, int]],
) -> Forecast:
    """Estimate the minutes and the bytes of the jobs of a call.

    Args:
        folder: Folder of the cross-validation.
        settings: Settings of the cross-validation.
        cohort: Cohort of the training.
        workers: Number of workers.
        jobs: Network and fold of each job.
        bytes_of_run: Bytes of the weights, and of all checkpoints of a run, by network, see
            `volseg.training.run_bytes`.
    """
    left = [job for job in jobs if not is_done(folder, *job)]
    rounds = math.ceil(len(left) / max(1, workers))
    minutes = None if settings.minutes is None else rounds * settings.minutes * _OVERHEAD
    held = [key for fold in settings.folds for key in cohort.fold(fold).validation]
    sizes = [path.stat().st_size for key in held if (path := cohort.label_path(key)) and path.is_file()]
    voxels = sum(math.prod(cohort.rows[key].shape) for key in held)
    maps = sum(sizes)
    if settings.inference.save_probabilities:
        maps += int(voxels * cohort.labels.channels * 2 * _SHARE_OF_PROBABILITIES)
    # At once, each worker writes the checkpoints of one run; of a finished one the best and the last network stay.
    most = max((at_most for _, at_most in bytes_of_run.values()), default=0)
    kept = sum(3 * bytes_of_run[name][0] for name in settings.networks if name in bytes_of_run) * len(settings.folds)
    disk = min(workers, max(1, len(left))) * most + kept + maps * (len(settings.networks) + 1)
    return Forecast(len(jobs), len(left), minutes, disk, {name: weights for name, (weights, _) in bytes_of_run.items()})


def duration(minutes: float) -> str:
    """Minutes as people say them.

    >>> duration(0.4), duration(75), duration(60 * 30)
    ('1 min', '1 h 15 min', '1 d 6 h')
    """
    whole = max(1, round(minutes))
    hours, rest = divmod(whole, 60)
    days, over = divmod(hours, 24)
    if days:
        return f"{days} d {over} h" if over else f"{days} d"
    return f"{hours} h {rest} min" if hours and rest else f"{hours} h" if hours else f"{rest} min"


def time_left(expected_s: float, *, waiting: int, running_s: Sequence[float], workers: int) -> float:
    """Minutes until all folds are finished.

    Args:
        expected_s: Seconds that one fold takes.
        waiting: Number of folds that have not begun.
        running_s: Seconds since the begin of each fold that is being done.
        workers: Number of workers.

    >>> time_left(600, waiting=3, running_s=[300, 0], workers=2)
    22.5
    """
    rest = [max(0.0, expected_s - since) for since in running_s]
    return (waiting * expected_s + sum(rest)) / max(1, workers) / 60
