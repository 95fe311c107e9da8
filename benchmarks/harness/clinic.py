"""The tables and the page of the simulated clinic: Dice against mm redrawn, by strategy, over test cases and seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.metrics import DRAWS, Interval, mean_interval
from volseg.report import RoundCurve, RoundPoint, write_rounds

Record = Mapping[str, Any]


def curves(records: Sequence[Record]) -> list[RoundCurve]:
    """A curve per strategy, from its start on; only rounds that every seed of the strategy has finished."""
    found = []
    for name in dict.fromkeys(record["strategy"] for record in records if record["strategy"] != "start"):
        own = [record for record in records if record["strategy"] == name]
        seeds = sorted({record["seed"] for record in own})
        starts = _starts(records, name)
        points = [_point("start", 0, [starts[seed] for seed in seeds], 0.0, 0)]
        for number in range(1, 1 + max(record["round"] for record in own)):
            there = [record for record in own if record["round"] == number]
            if sorted(record["seed"] for record in there) != seeds:
                break
            before = [record for record in own if record["round"] <= number]
            mm = sum(record["mm"] for record in before) / len(seeds)
            cases = round(sum(record["cases"] for record in before) / len(seeds))
            points.append(_point(f"round {number}", number, there, mm, cases))
        found.append(RoundCurve(name, tuple(points)))
    return found


def _starts(records: Sequence[Record], name: str) -> dict[int, Record]:
    """The first network that a strategy went on from, by seed: the shared one, or one trained again for it (`of`)."""
    starts = [record for record in records if record["strategy"] == "start" and record.get("of", name) == name]
    return {record["seed"]: record for record in sorted(starts, key=lambda record: "of" in record)}


def _point(name: str, number: int, records: Sequence[Record], mm: float, cases: int) -> RoundPoint:
    regions = list(next(iter(records[0]["dice"].values())))
    keys = sorted(records[0]["dice"])
    by_region = {
        region: mean_interval([np.mean([record["dice"][key][region] for record in records]) for key in keys], keys)
        for region in regions
    }
    return RoundPoint(name, number, mm, cases, None, 0, _interval(records, keys), by_region)


def _interval(records: Sequence[Record], keys: Sequence[str]) -> Interval:
    """Mean Dice over seeds, cases and regions; the bootstrap draws seeds and test cases, both with replacement."""
    return _bootstrap(_dice(records, keys))


def _dice(records: Sequence[Record], keys: Sequence[str]) -> NDArray[np.float64]:
    """Mean Dice over the regions, (records, cases)."""
    return np.array([[np.nanmean(list(record["dice"][key].values())) for key in keys] for record in records])


def _bootstrap(values: NDArray[np.float64]) -> Interval:
    """The mean of (seeds, cases), of which both are drawn."""
    count, number = values.shape
    lot = np.random.default_rng(0)
    seeds = lot.integers(count, size=(DRAWS, count))
    cases = lot.integers(number, size=(DRAWS, number))
    means = [values[np.ix_(one, other)].mean() for one, other in zip(seeds, cases, strict=True)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high), number, 0, number, DRAWS)


def saved(records: Sequence[Record], name: str, reference: str = "random") -> tuple[float, float, float] | None:
    """The share of mm that a strategy saves for the highest Dice that both reach, with its 95 % interval.

    By lines between rounds. The bootstrap draws seeds and test cases, the same for both strategies. The seeds are those
    of the strategy; rounds count that each of them has finished with both. None where there is no such round, or where
    the share is undefined or is so in more than one draw of twenty.
    """
    drawn = [_saved(*lines) for lines in _drawn(records, name, reference)]
    held = [share for share in drawn[1:] if share is not None]
    if not drawn or drawn[0] is None or len(held) < 0.95 * DRAWS:
        return None
    low, high = np.quantile(held, [0.025, 0.975])
    return drawn[0], float(low), float(high)


def at_equal_mm(records: Sequence[Record], name: str, reference: str = "random") -> Interval | None:
    """The Dice of a strategy minus that of another for as many mm, the mean along the mm that both have redrawn.

    One number for the whole curve, by lines between rounds, which tells more than the last round does. Seeds, rounds
    and draws are those of `saved`.
    """
    drawn = _drawn(records, name, reference)
    if not drawn:
        return None
    whole, *others = [mine.above(theirs) for mine, theirs in drawn]
    low, high = np.quantile(others, [0.025, 0.975])
    count = len(next(record for record in records if record["strategy"] == name)["dice"])
    return Interval(float(whole), float(low), float(high), count, 0, count, DRAWS)


def _drawn(records: Sequence[Record], name: str, reference: str) -> list[tuple[_Line, _Line]]:
    """The curves of both strategies over all seeds and cases, then over those of each draw; empty without a round."""
    found = {
        one: {(record["seed"], record["round"]): record for record in records if record["strategy"] == one}
        for one in (name, reference)
    }
    seeds = sorted({seed for seed, _ in found[name]})
    rounds = [
        one
        for one in sorted({number for _, number in found[name]})
        if all((seed, one) in by_place for seed in seeds for by_place in found.values())
    ]
    if not rounds:
        return []
    keys = sorted(found[name][seeds[0], rounds[0]]["dice"])
    tables = []
    for one, by_place in found.items():
        starts = _starts(records, one)
        dice = [_dice([starts[seed] for seed in seeds], keys)]
        dice += [_dice([by_place[seed, number] for seed in seeds], keys) for number in rounds]
        mm = [[0.0] * len(seeds)] + [[by_place[seed, number]["mm"] for seed in seeds] for number in rounds]
        tables.append((np.array(dice), np.cumsum(mm, axis=0)))  # (points, seeds, cases), (points, seeds)
    lot = np.random.default_rng(0)
    draws = [(np.arange(len(seeds)), np.arange(len(keys)))]
    draws += [
        (lot.integers(len(seeds), size=len(seeds)), lot.integers(len(keys), size=len(keys))) for _ in range(DRAWS)
    ]
    return [(_line(*tables[0], some, cases), _line(*tables[1], some, cases)) for some, cases in draws]


def _line(
    dice: NDArray[np.float64], mm: NDArray[np.float64], seeds: NDArray[np.int64], cases: NDArray[np.int64]
) -> _Line:
    return _Line(tuple(mm[:, seeds].mean(axis=1)), tuple(dice[:, seeds][:, :, cases].mean(axis=(1, 2))))


@dataclass(frozen=True)
class _Line:
    """The mm and the Dice of the points of a curve."""

    mm: tuple[float, ...]
    dice: tuple[float, ...]

    def mm_for(self, dice: float) -> float | None:
        """The mm at which it first reaches a Dice."""
        for n in range(1, len(self.mm)):
            low, high = self.dice[n - 1], self.dice[n]
            if high >= dice - 1e-12 and high > low:
                share = min(max((dice - low) / (high - low), 0.0), 1.0)
                return self.mm[n - 1] + share * (self.mm[n] - self.mm[n - 1])
        return None

    def above(self, other: _Line) -> float:
        """The mean of its Dice minus that of another line, along the mm that both have.

        >>> _Line((0, 100), (0.5, 0.7)).above(_Line((0, 50, 200), (0.5, 0.5, 0.8)))
        0.075
        """
        end = min(self.mm[-1], other.mm[-1])
        places = sorted({mm for mm in (*self.mm, *other.mm) if mm < end} | {end})
        apart = np.interp(places, self.mm, self.dice) - np.interp(places, other.mm, other.dice)
        return round(float(np.trapezoid(apart, places)) / end, 12)


def _saved(curve: _Line, reference: _Line) -> float | None:
    """The share of mm that a line saves for the highest Dice that both reach.

    >>> round(_saved(_Line((0, 100), (0.5, 0.8)), _Line((0, 100, 200), (0.5, 0.7, 0.8))), 3)
    0.5
    """
    aim = min(max(curve.dice), max(reference.dice))
    mine, theirs = curve.mm_for(aim), reference.mm_for(aim)
    return None if mine is None or theirs is None or theirs <= 0 else 1 - mine / theirs


def minus_random(records: Sequence[Record], name: str, number: int) -> Interval | None:
    """The Dice of a strategy minus that of random in a round; the interval draws seeds and test cases.

    None where a seed of the strategy has no such round of either.
    """
    found: dict[str, dict[int, Record]] = {one: {} for one in (name, "random")}
    for record in records:
        if record["strategy"] in found and record["round"] == number:
            found[record["strategy"]][record["seed"]] = record
    seeds = sorted({record["seed"] for record in records if record["strategy"] == name})
    if name == "random" or any(seed not in one for seed in seeds for one in found.values()):
        return None
    keys = sorted(found[name][seeds[0]]["dice"])
    mine, theirs = (_dice([one[seed] for seed in seeds], keys) for one in found.values())
    return _bootstrap(mine - theirs)


def table(records: Sequence[Record]) -> list[str]:
    """Markdown: a line per strategy and round, then one per strategy, of the seeds and rounds that random has as well.

    The mm saved are of those that random needs for the highest Dice that both reach.
    """
    found = curves(records)
    lines = [
        "| Strategy | Round | Cases corrected | m redrawn | Dice | 95 % interval | Dice minus random |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for curve in found:
        for point in curve.points:
            apart = minus_random(records, curve.name, point.round) if point.round else None
            lines.append(
                f"| {curve.name} | {point.round} | {point.cases} | {point.mm / 1000:.2f} | {point.dice.mean:.4f} "
                f"| {point.dice.low:.4f} to {point.dice.high:.4f} | {_apart(apart)} |"
            )
    lines += ["", "| Strategy | Seeds | Dice minus random for as many mm | mm saved |", "| --- | --- | --- | --- |"]
    for curve in found:
        even = None if curve.name == "random" else at_equal_mm(records, curve.name)
        if even is None:
            continue
        share = saved(records, curve.name)
        told = "" if share is None else f"{100 * share[0]:+.0f} % ({100 * share[1]:+.0f} to {100 * share[2]:+.0f})"
        seeds = ", ".join(map(str, sorted({record["seed"] for record in records if record["strategy"] == curve.name})))
        lines.append(f"| {curve.name} | {seeds} | {_apart(even)} | {told} |")
    return lines


def seed_table(records: Sequence[Record]) -> list[str]:
    """Markdown: a line per seed and strategy, with the Dice at the start and after each round.

    The difference is that of `at_equal_mm` of one seed; its interval draws test cases.
    """
    lines = [
        "| Seed | Strategy | Dice at the start and after each round | m redrawn | Dice minus random for as many mm |",
        "| --- | --- | --- | --- | --- |",
    ]
    for seed in sorted({record["seed"] for record in records}):
        there = [record for record in records if record["seed"] == seed]
        for name in dict.fromkeys(record["strategy"] for record in there if record["strategy"] != "start"):
            own = sorted((one for one in there if one["strategy"] == name), key=lambda one: int(one["round"]))
            start = _starts(there, name)[seed]
            dice = ", ".join(f"{_dice([record], sorted(record['dice'])).mean():.4f}" for record in [start, *own])
            even = None if name == "random" else at_equal_mm(there, name)
            metres = sum(record["mm"] for record in own) / 1000
            lines.append(f"| {seed} | {name} | {dice} | {metres:.2f} | {_apart(even)} |")
    return lines


def _apart(found: Interval | None) -> str:
    return "" if found is None else f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"


def dump(plan: Mapping[str, Any], records: Sequence[Record]) -> str:
    """JSON of a plan and its records, a line for each, with four digits of each Dice.

    >>> print(dump({"steps": 2}, [{"round": 1, "dice": {"a": {"liver": 0.123456}}}]), end="")
    {"benchmark": "loop", "plan": {"steps": 2}, "records": [
     {"round": 1, "dice": {"a": {"liver": 0.1235}}}
    ]}
    """
    lines = []
    for record in records:
        dice = {
            key: {name: round(value, 4) for name, value in regions.items()} for key, regions in record["dice"].items()
        }
        lines.append(" " + json.dumps({**record, "dice": dice}))
    head = f'{{"benchmark": "loop", "plan": {json.dumps(plan)}, "records": [\n'
    return head + ",\n".join(lines) + "\n]}\n"


def write_page(records: Sequence[Record], folder: Path, *, details: Mapping[str, str]) -> None:
    """Write `rounds.html` and `rounds.csv`."""
    drawn = "seed and patient" if len({record["seed"] for record in records}) > 1 else "patient"
    title = "A simulated clinic: Dice against mm redrawn"
    write_rounds(curves(records), folder, title=title, details=details, drawn=drawn)
