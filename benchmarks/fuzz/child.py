"""One door under atheris, in a process of its own: `python -m benchmarks.fuzz.child DOOR [libFuzzer's options]`."""

from __future__ import annotations

import json
import logging
import random
import struct
import sys
import warnings
from typing import Any

import atheris

with atheris.instrument_imports(include=["geomedsr", "nibabel"]):
    from benchmarks.fuzz.doors import DOORS, packed, unpacked

__all__ = ["main"]

_NUMBERS = (0, 1, -1, 2, 3, 7, 127, 255, 256, 32767, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63, 1e-320)
_VALUES: tuple[Any, ...] = (
    *_NUMBERS, -(2**63), 2**70, 1e308, float("nan"), float("inf"), None, True, "", "0", "NaN", "../..", "a" * 300,
    "\x00", "\ud800", [], [[]], {}, [1], [None] * 3, {"name": "x"}, "EPSG:4326", "|O", "<f8", [0, 0], [1 << 40] * 2,
)  # fmt: skip
"""What stands where something else should."""


def _leaves(value: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:  # noqa: ANN401 - JSON values
    """The way to each value within a value, itself left out."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ways = [(*way, key) for key, _ in inside]
    return ways + [deeper for way, (_, item) in zip(ways, _items(value), strict=True) for deeper in _leaves(item, way)]


def _items(value: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401
    return list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []


def _changed_json(text: bytes, rng: random.Random) -> bytes:
    """JSON with one value replaced, left out or given twice; or as it was, where it is none."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return text
    ways = _leaves(data)
    if not ways:
        return text
    for _ in range(rng.choice((1, 1, 2, 4))):
        way = rng.choice(ways)
        inside = data
        try:
            for step in way[:-1]:
                inside = inside[step]
            if rng.random() < 0.2 and isinstance(inside, dict):
                del inside[way[-1]]
            elif rng.random() < 0.2 and isinstance(inside, list):
                inside.insert(0, rng.choice(inside))
            else:
                inside[way[-1]] = rng.choice(_VALUES)
        except (KeyError, IndexError, TypeError):
            continue
    return json.dumps(data).encode()


def _changed_numbers(data: bytes, rng: random.Random) -> bytes:
    """Bytes with a number of some width replaced, most often near the start, where headers are."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        width = rng.choice((1, 2, 4, 8))
        reach = min(len(changed), rng.choice((400, 2000, 1 << 20))) - width
        if reach <= 0:
            break
        at = rng.randrange(reach)
        at -= at % min(width, 2)
        value, order = rng.choice(_NUMBERS), rng.choice("<>")
        if width >= 4 and rng.random() < 0.3:
            number = rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e30, 1e-30, float(value)))
            put = struct.pack(f"{order}{'f' if width == 4 else 'd'}", number)
        else:
            put = (int(value) % (1 << 8 * width)).to_bytes(width, "little" if order == "<" else "big")
        changed[at : at + width] = put
    return bytes(changed)


def _mutated(name: str, data: bytes, largest: int, seed: int) -> bytes:
    """Another input out of one: what knows its form and what knows nothing take turns."""
    rng = random.Random(seed)
    if rng.random() < 0.4:
        return bytes(atheris.Mutate(data, largest))
    if name in ("zarr", "weights", "encoders") and (files := unpacked(data)):
        told = [one for one in files if one.endswith((".json", ".zarray", ".zattrs", ".zgroup", ".zmetadata"))]
        one = rng.choice(told if told and rng.random() < 0.8 else list(files))
        change = _changed_json if one in told else _changed_numbers
        return packed({**files, one: change(files[one], rng)})[:largest]
    if data[:1] in (b"{", b"["):
        return _changed_json(data, rng)[:largest]
    return _changed_numbers(data, rng)[:largest]


def main() -> None:
    """Tries inputs until libFuzzer has had enough, or one is a fault."""
    name = sys.argv.pop(1)
    door = DOORS[name]
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    door.enter(next(door.seeds()))  # loads what it needs, for which no input is to blame
    mutator = None if door.is_text and name == "words" else lambda data, size, seed: _mutated(name, data, size, seed)
    atheris.Setup(sys.argv, door.enter, **({} if mutator is None else {"custom_mutator": mutator}))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
