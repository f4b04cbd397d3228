"""Inputs that were faults once: what a run of the fuzzer found, made again by code or kept as it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.fuzz.doors import DOORS, packed, unpacked

__all__ = ["FOUND"]

FILES = Path(__file__).parents[2] / "tests" / "fuzz_found"
Found = tuple[str, Callable[[], bytes]]


def _zarr(seed: int, name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[], bytes]:
    """A store whose metadata was changed."""

    def make() -> bytes:
        files = unpacked(list(DOORS["zarr"].seeds())[seed])
        data = json.loads(files[name])
        change(data)
        return packed({**files, name: json.dumps(data).encode()})

    return make


def _cases() -> Iterator[tuple[str, Found]]:
    yield "attributes that are a list", ("zarr", _zarr(5, "zarr.json", lambda data: data.update(attributes=[1])))


def _files() -> Iterator[tuple[str, Found]]:
    """Those that no few lines make: bytes as the fuzzer left them, called by their door."""
    for path in sorted(FILES.glob("*.bin")):
        yield path.stem, (path.stem.partition("-")[0], path.read_bytes)


FOUND: dict[str, Found] = {**dict(_cases()), **dict(_files())}
"""What it is, and the door and the bytes."""
