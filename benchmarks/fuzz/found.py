"""Inputs that were faults once: what a run of the fuzzer found, made small, and made again by code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.fuzz.doors import DOORS, packed, unpacked

__all__ = ["FOUND"]

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


FOUND: dict[str, Found] = dict(_cases())
"""What it is, and the door and the bytes."""
