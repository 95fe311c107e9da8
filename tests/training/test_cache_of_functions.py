"""Functions in a preprocessing that is kept on disk: another number in one of them is another preprocessing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, Lambdad

from volseg.labels import LabelTable
from volseg.training import CachedDataset
from volseg.training.cache.fingerprint import _constant, describe_steps, digest
from volseg.transforms import preprocessing
from volseg.volume import body_statistics, nearest_voxels, read_case_channels

FACTOR = 2.0


class Scale:
    def __init__(self, factor: float) -> None:
        self.factor = factor

    def times(self, image: torch.Tensor) -> torch.Tensor:
        return image * self.factor


def scaled(image: torch.Tensor, *, factor: float = 1.0) -> torch.Tensor:
    return image * factor


def within(factor: float) -> Callable[[Any], Any]:
    def outer(image: torch.Tensor) -> torch.Tensor:
        return next(part * 2.0 for part in [image]) * factor

    return outer


def by_default(factor: float) -> Callable[[Any], Any]:
    return lambda image, factor=factor: image * factor


def of_config(factor: float, text: str = "$lambda image: image * @factor") -> Callable[[Any], Any]:
    return ConfigParser({"factor": factor, "step": text}).get_parsed_content("step")


def word(function: Callable[[Any], Any]) -> str:
    return digest(describe_steps([Lambdad("image", func=function)]))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda image: image * 2.0, lambda image: image * 3.0),
        (functools.partial(scaled, factor=2.0), functools.partial(scaled, factor=3.0)),
        (Scale(2.0).times, Scale(3.0).times),
        (by_default(2.0), by_default(3.0)),
        (within(2.0), within(3.0)),
        (of_config(2.0), of_config(3.0)),
        (of_config(1, "$lambda image: image * 2.0"), of_config(1, "$lambda image: image * 3.0")),
    ],
    ids=["constant", "partial", "method", "default", "closure", "reference of a config", "constant in a config"],
)
def test_another_number_in_a_function_is_another_preprocessing(one, other):
    """The cases of before were taken from the disk, and nothing was said."""
    assert word(one) != word(other)


def test_a_number_that_a_function_finds_by_name_counts(monkeypatch):
    before = word(lambda image: image * FACTOR)
    assert word(lambda image: image * FACTOR) == before
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert word(lambda image: image * FACTOR) != before


def test_a_set_in_a_function_has_one_order():
    code = (lambda word: word in {"a", "b", "c", "d"}).__code__
    assert any(isinstance(part, frozenset) for part in code.co_consts)
    assert [_constant(part) for part in code.co_consts if isinstance(part, frozenset)] == [
        repr(sorted(map(repr, {"d", "c", "b", "a"})))
    ]


def test_the_cases_on_disk_are_those_of_the_function(tmp_path):
    items = [{"image": torch.ones(1, 2, 2, 2), "key": "a"}]
    for factor in (2.0, 3.0, 2.0):
        step = Compose([Lambdad("image", func=functools.partial(scaled, factor=factor))])
        dataset = CachedDataset(items, step, cache="disk", cache_dir=tmp_path)
        assert float(dataset[0]["image"].max()) == factor


def test_the_functions_that_a_step_calls_count_too():
    """What normalises and resamples a case lies beside the steps, in `volseg.volume`."""
    grid = {"spacing_mm": (1.0, 1.0, 1.0), "normalisation": [{"scheme": "mr"}]}
    steps = preprocessing(LabelTable.exclusive(["a"]), channels=1, **grid).transforms
    told = dict(describe_steps(steps)["modules"])
    for function in (nearest_voxels, body_statistics, read_case_channels):
        assert told[function.__module__], function
    assert told["volseg.transforms.label_grid"]
    assert not any(name.startswith(("monai", "numpy", "torch")) for name in told)
