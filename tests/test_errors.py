"""The tree of errors: its drawing tells the truth, and the case key is added once."""

from __future__ import annotations

import pickle
import re

import pytest

from volseg import errors
from volseg.errors import GeometryError, VolsegError, naming, telling_memory

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, VolsegError)]


def test_the_drawing_in_the_docstring_is_the_tree():
    drawn = {}
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)([A-Z]\w+Error) ", line)
        if found:
            depth = len(found.group(1)) // 4
            parents[depth:] = [found.group(2)]
            drawn[found.group(2)] = parents[depth - 1] if depth else "Exception"
    assert drawn == {kind.__name__: kind.__mro__[1].__name__ for kind in CLASSES}


@pytest.mark.parametrize("kind", CLASSES)
def test_a_key_is_added_once_and_the_kind_and_the_cause_stay(kind):
    cause = ValueError("why")
    try:
        raise kind("no voxels") from cause
    except VolsegError as error:
        named = error.of_case("case1_day2").of_case("other")
    assert type(named) is kind
    assert (str(named), named.message, named.case) == ("case1_day2: no voxels", "no voxels", "case1_day2")
    assert named.__cause__ is cause


def test_an_error_keeps_its_key_from_one_process_to_another():
    error = pickle.loads(pickle.dumps(GeometryError("another grid", case="case1_day2")))
    assert str(error) == "case1_day2: another grid"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 90 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("Exception from src/core: std::bad_alloc"),
    ],
)
@pytest.mark.parametrize("door", [lambda: naming("case1"), telling_memory], ids=["naming", "telling"])
def test_a_lack_of_memory_is_told_as_such(error, door):
    with pytest.raises(VolsegError, match=r"the memory ran out .*; close other programs") as told, door():
        raise error
    assert told.value.__cause__ is error


def test_another_error_is_not_taken_for_a_lack_of_memory():
    with pytest.raises(RuntimeError, match=r"^shapes differ$"), telling_memory():
        raise RuntimeError("shapes differ")
