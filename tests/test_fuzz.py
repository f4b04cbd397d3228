"""The doors take what was a fault once, and each valid example, as they should; the fuzzer itself is run by hand."""

from __future__ import annotations

import random

import pytest

from benchmarks.fuzz.doors import DOORS, packed, unpacked
from benchmarks.fuzz.found import FOUND


@pytest.mark.parametrize("name", DOORS)
def test_a_door_takes_its_examples_and_cuts_of_them(name: str) -> None:
    door, rng = DOORS[name], random.Random(0)
    for data in door.seeds():
        door.enter(data)
        for _ in range(3):
            door.enter(data[: rng.randrange(len(data))])


@pytest.mark.parametrize("name", FOUND)
def test_what_was_a_fault_once_is_read_or_refused(name: str) -> None:
    door, make = FOUND[name]
    DOORS[door].enter(make())


def test_several_files_are_one_input() -> None:
    files = {"zarr.json": b"{}", "c/0/0": bytes(9), "empty": b""}
    assert unpacked(packed(files) + b"torn") == files
