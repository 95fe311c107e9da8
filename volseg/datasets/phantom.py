"""The phantom: a synthetic abdominal MR cohort for those who have no patient data at hand.

Each scan shows one abdomen as a balanced steady-state sequence of an MR-Linac would, in coarse pixels: stomach, small
and large bowel with fluid, stool and gas, among liver, spleen, kidneys, vessels, muscle and fat. Patients differ in
size, form and course of the bowel; the days of one patient differ in filling and by some millimetres. The label is
outlined as by hand: organs that touch share about 2 % of their voxels.

It cannot be solved by a threshold. Over the default cohort of 42 scans, each divided by its 99th percentile, the best
window of intensity reaches a Dice of 0.15 (large bowel), 0.19 (small bowel) and 0.06 (stomach). Nor by place alone:
the mean label of the other patients reaches 0.62, 0.75 and 0.67. Results on it say that a pipeline works, and nothing
about patients.

Days are mild by default, as in all figures that were published before there were others. With real days, see
`volseg.datasets.treatment_days`, a patient lies elsewhere each day, organs fill, loops move, and contrast and the
annotator's habits persist: what a prior and an adapted network can be measured on.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from volseg.cohort import PHANTOM_FILE, SLICE_AXES, Case
from volseg.datasets.anatomy import Abdomen, build_abdomen, smooth_field
from volseg.datasets.treatment_days import DAYS, MILD, OTHER_SIZE, REAL, REAL_SIZES, Day, Habits, grid_of
from volseg.datasets.tube import Field, Hollow
from volseg.errors import UsageError
from volseg.files import PARTIAL
from volseg.labels import LabelTable
from volseg.volume import Volume, affine_of_axes

LABELS = LabelTable.overlapping(("large_bowel", "small_bowel", "stomach"))
SLICES, THICKNESS_MM = 52, 3.0
# Columns, rows, spacing along columns and rows in mm; a patient keeps one of them.
SIZES = ((96, 76, 3.5, 3.5), (88, 72, 3.75, 3.75))
FIRST_PATIENT = {MILD: 201, REAL: 401}

# Signal of each tissue in a balanced steady-state sequence, relative to fluid.
_SIGNAL = {
    "lung": 0.06,
    "ribs": 0.30,
    "liver": 0.44,
    "spleen": 0.56,
    "hilum": 0.74,
    "kidney": 0.58,
    "pancreas": 0.52,
    "gall_bladder": 0.96,
    "bladder": 0.98,
    "psoas": 0.32,
    "vessel": 0.90,
    "ilium": 0.42,
    "spine": 0.22,
    "vertebra": 0.46,
    "disc": 0.58,
    "canal": 0.92,
}
_FAT, _MUSCLE, _WALL, _GAS = 0.80, 0.29, 0.34, 0.05
# Fat and water in one pixel cancel: a dark line around organs in fat.
_OUTLINED, _EDGE = frozenset({"liver", "spleen", "kidney", "pancreas", "gall_bladder", "vessel", "vertebra"}), 0.30


def phantom_keys(*, patients: int = 14, days: int = 3, seed: int = 0, kind: str = MILD) -> list[tuple[int, int]]:
    """Patient and day of every scan of the cohort; days are irregular, as treatment days are.

    Patients count from 201, those of real days from 401: no key is one of the UW-Madison set.

    >>> phantom_keys(patients=1, days=3)[0]
    (201, 0)
    """
    if min(patients, days) < 1 or seed < 0:
        raise UsageError(
            f"patients and days must be at least 1 and the seed at least 0, got {patients}, {days} and {seed}; "
            "give other numbers"
        )
    keys = []
    first = FIRST_PATIENT[check_kind(kind)]
    for patient in range(first, first + patients):
        gaps = np.random.default_rng([seed, patient]).integers(1, 10, size=days)
        keys += [(patient, int(day)) for day in np.cumsum(gaps) - gaps[0]]
    return keys


def check_kind(kind: str) -> str:
    """Return how days differ, or raise UsageError.

    >>> check_kind("real")
    'real'
    """
    if kind not in DAYS:
        raise UsageError(f"the kind of days must be {' or '.join(DAYS)}, got {kind!r}; name one of them")
    return kind


def phantom_case(*, patient: int, day: int, seed: int = 0, kind: str = MILD) -> Case:
    """One scan: deterministic for (seed, patient, day, kind).

    Args:
        patient: Number of the patient.
        day: Number of the day.
        seed: Seed of the cohort.
        kind: `mild` or `real`, see `volseg.datasets.treatment_days`.

    Returns:
        a case with uint16 voxels (96, 76, 52) or (88, 72, 52) and a label map of `LABELS`, spacing 3.5 or 3.75 mm in
        plane and 3 mm between slices; real days have wider grids, see `grid_of`. Slices run from head to feet, as in
        the UW-Madison data.

    Raises:
        UsageError: A number is negative.

    >>> phantom_case(patient=201, day=0).key
    'case201_day0'
    """
    if min(patient, day, seed) < 0:
        raise UsageError(
            f"patient, day and seed must be at least 0, got {patient}, {day} and {seed}; give other numbers"
        )
    real = check_kind(kind) == REAL
    columns, rows, sx, sy = SIZES[patient % len(SIZES)]
    if real:
        columns, rows, sx, sy = grid_of(patient, first_patient=FIRST_PATIENT[REAL], day=day)
    shape, spacing = (columns, rows, SLICES), (sx, sy, THICKNESS_MM)
    of_patient, of_day = np.random.default_rng([seed, patient]), np.random.default_rng([seed, patient, day])
    # What real days add has random numbers of its own, so that mild days stay as they are.
    today = Day.drawn(np.random.default_rng([seed, patient, day, 1])) if real else None
    habits = Habits.drawn(np.random.default_rng([seed, patient, 0, 2])) if real else None
    abdomen = build_abdomen(of_patient, of_day, shape=shape, spacing=spacing, today=today)
    painted = _paint(abdomen, of_patient, of_day, pixel_mm=sx, habits=habits, gas=today.gas if today else 1.0)
    signal = _receive(painted, of_patient, of_day)
    masks = abdomen.masks if habits is None else abdomen.masks_of(habits)
    affine = affine_of_axes(SLICE_AXES, spacing)
    return Case(
        key=f"case{patient}_day{day}",
        patient=f"case{patient}",
        session=f"day{day}",
        # The anatomy is drawn from the feet up; the first slice is the one nearest to the head, as in real scans.
        channels=(Volume(signal[:, :, ::-1], affine),),
        label=Volume(LABELS.encode(masks)[:, :, ::-1], affine),
        source=f"phantom, seed {seed}" + (", real days" if real else ""),
    )


def write_phantom(
    raw: Path,
    *,
    patients: int = 14,
    days: int = 3,
    seed: int = 0,
    kind: str = MILD,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the cohort as raw data in the UW-Madison layout, whole or not at all.

    Args:
        raw: Folder to make; absent or empty.
        patients: Number of patients.
        days: Number of scans per patient.
        seed: Seed of the random numbers: another seed, another cohort.
        kind: How the days of a patient differ, `mild` or `real`.
        workers: Number of threads that draw scans.
        progress: Function that is called with the number of finished scans and of all.

    Returns:
        `raw`, with `train/`, `train.csv` and `phantom.json` (seed, sizes and axes).

    Raises:
        UsageError: `raw` holds something, or a number is too small.
    """
    from volseg.formats import write_raw

    raw = Path(raw)
    if raw.exists() and (not raw.is_dir() or any(raw.iterdir())):
        raise UsageError(f"{raw} is not empty; remove it or name another folder for the phantom")
    if workers < 1:
        raise UsageError(f"the number of workers must be at least 1, got {workers}; give another one")
    keys = phantom_keys(patients=patients, days=days, seed=seed, kind=kind)

    def cases() -> Iterator[Case]:
        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, len(keys), 2 * workers):
                part = keys[start : start + 2 * workers]
                drawn = pool.map(lambda key: phantom_case(patient=key[0], day=key[1], seed=seed, kind=kind), part)
                for done, case in enumerate(drawn, start=start + 1):
                    yield case
                    if progress:
                        progress(done, len(keys))

    raw.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=PARTIAL, suffix=f"-{raw.name}", dir=raw.parent))
    try:
        write_raw(partial, cases(), LABELS)
        facts = {"seed": seed, "patients": patients, "days": days, "slices": SLICES, "sizes": SIZES, "axes": SLICE_AXES}
        if kind != MILD:
            facts |= {"kind": kind, "sizes": sorted({*REAL_SIZES, OTHER_SIZE})}
        (partial / PHANTOM_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        partial.chmod(0o755)
        if raw.exists():
            raw.rmdir()
        partial.replace(raw)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return raw


def _paint(
    abdomen: Abdomen,
    patient: np.random.Generator,
    day: np.random.Generator,
    *,
    pixel_mm: float,
    habits: Habits | None = None,
    gas: float = 1.0,
) -> Field:
    """The signal without noise: each structure over the ones before it, edges mixed over one pixel."""

    def over(image: Field, value: Field | float, distance: Field) -> Field:
        return _mix(image, np.clip(0.5 - distance / pixel_mm, 0, 1), value)

    shape = abdomen.body.shape
    grain = [gaussian_filter(day.normal(size=shape), sigma) for sigma in (0.7, 1.3)]
    fine, coarse = (field / field.std() for field in grain)
    tone = {name: value * (1 + patient.normal(0, 0.05)) for name, value in _SIGNAL.items()}
    fat = _FAT * (1 + patient.normal(0, 0.04))

    image = over(np.full(shape, 0.01), fat + 0.015 * coarse, abdomen.body)
    skin = np.abs(abdomen.body + 1) - 1.2
    image = over(image, 0.45, skin)
    image = over(image, _MUSCLE + 0.02 * fine, abdomen.muscle)
    mesentery = np.clip(0.55 - abdomen.vessels, 0, 0.3) * 1.2
    image = over(image, fat * 0.9 - mesentery + 0.03 * coarse, abdomen.cavity)
    for name in _SIGNAL:
        value: Field | float = tone[name]
        if name == "liver":
            value = value + np.clip(0.42 - abdomen.vessels, 0, 0.25) * 0.9 + 0.012 * coarse
        elif name == "kidney":
            value = value + 0.12 * np.clip(-abdomen.solid[name] / 12, 0, 1) + 0.03 * coarse
        elif name in ("pancreas", "vertebra", "spleen"):
            value = value + 0.03 * coarse
        if name in _OUTLINED:
            image = over(image, _EDGE, abdomen.solid[name] - 0.8)
        image = over(image, value, abdomen.solid[name])

    agent = habits.content if habits else {}
    for organ, wall_mm, content in (
        (abdomen.small_bowel, 1.6, _chyme(abdomen.small_bowel, day, coarse) * agent.get("small_bowel", 1)),
        (abdomen.stomach, 3.0, _meal(abdomen.stomach, day, coarse) * agent.get("stomach", 1)),
        (abdomen.large_bowel, 2.6, _stool(abdomen.large_bowel, day, fine, coarse, gas) * agent.get("large_bowel", 1)),
    ):
        image = over(image, _WALL, organ.distance)
        image = over(image, content, organ.distance + wall_mm)
    return image


def _mix(signal: Field, share: Field, other: Field | float = _GAS) -> Field:
    mixed: Field = signal + share * (other - signal)
    return mixed


def _along(rng: np.random.Generator, organ: Hollow, *, scale_mm: float) -> Field:
    """A smooth random function of the length along the organ, mean 0, deviation 1, on the grid."""
    steps = np.arange(0, organ.along.max() + 10, 5.0)
    values = gaussian_filter1d(rng.normal(size=len(steps) + 40), scale_mm / 5)[20 : 20 + len(steps)]
    field: Field = np.interp(organ.along, steps, (values - values.mean()) / values.std())
    return field


def _chyme(organ: Hollow, day: np.random.Generator, coarse: Field) -> Field:
    """Fluid and collapsed loops in turn, with folds across the lumen."""
    filling = _along(day, organ, scale_mm=30)
    folds = np.cos(2 * np.pi * organ.along / 11)
    content = 0.70 + 0.13 * filling + 0.07 * folds + 0.03 * coarse
    gas = np.clip((filling - 1.5) * 2, 0, 1) * np.clip((organ.height - 0.15) * 4, 0, 1)
    return _mix(content, gas)


def _stool(organ: Hollow, day: np.random.Generator, fine: Field, coarse: Field, uneven: float = 1.0) -> Field:
    """Mottled stool, in places fluid, with gas in front."""
    wet = np.clip(0.5 + 0.6 * _along(day, organ, scale_mm=50), 0, 1)
    content = 0.37 + 0.19 * wet + (0.09 - 0.05 * wet) * (0.6 * fine + 0.6 * coarse)
    level = 0.55 - 0.55 * uneven * _along(day, organ, scale_mm=45)
    gas = np.clip((organ.height - level) * 4, 0, 1)
    return _mix(content, gas)


def _meal(organ: Hollow, day: np.random.Generator, coarse: Field) -> Field:
    """Fluid or a mixed meal below, gas above a level that is flat across the organ."""
    inside = organ.distance < 0
    rows = np.broadcast_to(np.arange(inside.shape[1], dtype=np.float64)[None, :, None], inside.shape)
    front, back = np.quantile(rows[inside], (0.0, 1.0))
    fluid = day.uniform(0, 1)
    content = 0.48 + 0.34 * fluid + (0.10 - 0.07 * fluid) * coarse
    content = content + 0.10 * np.clip((rows - front) / (back - front) - 0.6, 0, 1)  # the heavy part sinks
    level = front + day.uniform(0.02, 0.42) * (back - front)
    gas = np.clip(level - rows + 0.5, 0, 1)
    return _mix(content, gas)


def _receive(signal: Field, patient: np.random.Generator, day: np.random.Generator) -> NDArray[np.uint16]:
    """Coil sensitivity, blur, Rician noise and the scanner's scale; uint16."""
    shape = signal.shape
    uneven = 0.10 * smooth_field(patient, shape, (3, 3, 2)) + 0.05 * smooth_field(day, shape, (3, 3, 2))
    bias = np.exp(0.25 * np.tanh(4 * uneven))
    y = np.linspace(-1, 1, shape[1])[None, :, None]
    bias = bias * (1 + 0.12 * y**2)  # arrays of coils lie before and behind
    clean = gaussian_filter(signal * bias, (0.45, 0.45, 0.4))
    noise = day.uniform(0.022, 0.034)
    noisy = np.hypot(clean + noise * day.normal(size=shape), noise * day.normal(size=shape))
    scale = math.exp(patient.uniform(math.log(1800), math.log(5200)) + day.normal(0, 0.10))
    return np.clip(np.rint(noisy * scale), 0, 65535).astype(np.uint16)
