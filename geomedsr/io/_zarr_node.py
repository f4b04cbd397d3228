"""What a folder of a zarr store says of itself, read as plain JSON and judged before any of its data is decoded.

Only arrays of whole and real numbers are let in, behind codecs from a list: a codec of another name could run code
or decode into anything. Links are not followed, so that a store cannot show what lies outside of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geomedsr.errors import InputError
from geomedsr.io._admitted import CODECS, NUMBER_KINDS, SHARDING
from geomedsr.io._zarr_place import Place

__all__ = ["Node", "checked_name", "consolidated_names", "read_node"]

_LARGEST_CHUNK = 1 << 32
"""Bytes of a decoded chunk: more than that at once is refused."""
_MOST_IN_A_SHARD = 1 << 22
"""Chunks in a shard: its index has 16 bytes for each, and is read whole."""


@dataclass(frozen=True)
class Node:
    """An array or a group of a zarr store, as its metadata says.

    `chunks` is the block that is compressed, `shards` the object that holds many of them (None: none does).
    `index_place` is where a shard tells which chunks it has: at its "start" or "end", and how many bytes of checksum
    follow; None where it does so in a way of its own. `refusal` is why an array is not read (None: nothing is wrong
    with it).
    """

    path: Path
    zarr_format: int
    is_array: bool
    attributes: Mapping[str, Any] = field(default_factory=dict)
    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] | None = None
    chunks: tuple[int, ...] = ()
    shards: tuple[int, ...] | None = None
    index_place: tuple[str, int] | None = None
    fill_value: Any = None
    separator: str = "/"
    key_prefix: tuple[str, ...] = ()
    dimension_names: tuple[str | None, ...] | None = None
    refusal: str | None = None

    def object_path(self, index: Sequence[int]) -> Path:
        """The file of a chunk, or of a shard where the array has shards."""
        return self.path / self.separator.join((*self.key_prefix, *map(str, index)))


def read_node(path: Path) -> Node | None:
    """The node at a folder, or None where there is none.

    Raises:
        InputError: its metadata is broken.
    """
    place = Place(path)
    try:
        if (data := _json(place / "zarr.json")) is not None:
            return _of_format_3(path, data)
        if (data := _json(place / ".zarray")) is not None:
            return _of_format_2(path, data, _json(place / ".zattrs") or {})
        if _json(place / ".zgroup") is not None:
            return Node(path, 2, is_array=False, attributes=_json(place / ".zattrs") or {})
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"The zarr metadata of {place} is broken ({type(error).__name__}: {error}).") from error
    except OSError as error:
        raise InputError(f"The zarr metadata of {place} cannot be read: {error.strerror or error}.") from error
    return None


def consolidated_names(path: Path) -> list[str]:
    """The names directly below a group by its consolidated metadata; what they say beyond the names is not believed.

    Raises:
        InputError: it has none, or they are broken.
    """
    place = Place(path)
    try:
        data = _json(place / "zarr.json")
        told = (data or {}).get("consolidated_metadata") if data is not None else _json(place / ".zmetadata")
        keys = [] if told is None else list(told["metadata"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"The consolidated metadata of {place} are broken ({error}).") from error
    if told is None:
        raise InputError(
            f"{place} cannot be asked for what is in it, and has no consolidated metadata; name the array."
        )
    return sorted({key.split("/")[0] for key in keys if not key.startswith(".")})


def checked_name(path: Path, name: object) -> str:
    """A name that metadata gives for something below `path`.

    Raises:
        InputError: it leads out of the store.
    """
    text = str(name)
    parts = text.split("/")
    if not isinstance(name, str) or "\\" in text or ":" in parts[0] or any(part in ("", ".", "..") for part in parts):
        raise InputError(f"The metadata of {path} names '{text:.80}', which leads out of it; it is not followed.")
    if any((path / "/".join(parts[:count])).is_symlink() for count in range(1, len(parts) + 1)):
        raise InputError(f"The metadata of {path} names '{text:.80}', which is a link; it is not followed.")
    return text


def _json(place: Place) -> dict[str, Any] | None:
    text = place.read()
    if text is None:
        return None
    data = json.loads(text.decode("utf-8"))
    if not isinstance(data, dict):
        raise TypeError(f"{place.path.name} holds no object")
    return data


def _of_format_3(path: Path, data: dict[str, Any]) -> Node:
    attributes = data.get("attributes") or {}
    if data["node_type"] == "group":
        return Node(path, 3, is_array=False, attributes=attributes)
    codecs = _codecs_3(data["codecs"])
    outer = _lengths(data["chunk_grid"]["configuration"]["chunk_shape"])
    inner = [_lengths(codec["configuration"]["chunk_shape"]) for codec in codecs if codec.get("name") == SHARDING]
    named = data.get("dimension_names")
    keys = data["chunk_key_encoding"]
    key_prefix, separator = ((), ".") if keys["name"] == "v2" else (("c",), "/")
    return _judged(
        [str(codec.get("name")).removeprefix("numcodecs.") for codec in codecs],
        data["data_type"],
        Node(
            path,
            3,
            is_array=True,
            attributes=attributes,
            shape=_lengths(data["shape"]),
            chunks=inner[0] if inner else outer,
            shards=outer if inner else None,
            index_place=_index_place(codecs),
            fill_value=data.get("fill_value"),
            separator=(keys.get("configuration") or {}).get("separator", separator),
            key_prefix=key_prefix,
            dimension_names=tuple(named) if named else None,
        ),
    )


def _index_place(codecs: list[dict[str, Any]]) -> tuple[str, int] | None:
    """Where the index of a shard is and how many bytes its checksum has, where it is stored as nearly all are."""
    told = next((codec["configuration"] for codec in codecs if codec.get("name") == SHARDING), None)
    if told is None:
        return None
    inside = [one if isinstance(one, dict) else {"name": one} for one in told.get("index_codecs", [])]
    checksum = {("bytes",): 0, ("bytes", "crc32c"): 4}.get(tuple(str(one.get("name")) for one in inside))
    if checksum is None or (inside[0].get("configuration") or {}).get("endian") != "little":
        return None
    return str(told.get("index_location", "end")), checksum


def _codecs_3(codecs: list[Any]) -> list[dict[str, Any]]:
    """All codecs of an array, those inside of shards and of their index too."""
    found: list[dict[str, Any]] = []
    for item in codecs:
        codec: dict[str, Any] = {"name": item} if isinstance(item, str) else item
        inside = codec.get("configuration") or {}
        found += [codec, *_codecs_3(inside.get("codecs", [])), *_codecs_3(inside.get("index_codecs", []))]
    return found


def _of_format_2(path: Path, data: dict[str, Any], attributes: dict[str, Any]) -> Node:
    codecs = [*(data.get("filters") or []), *([data["compressor"]] if data.get("compressor") else [])]
    return _judged(
        [str(codec["id"]) for codec in codecs],
        data["dtype"],
        Node(
            path,
            2,
            is_array=True,
            attributes=attributes,
            shape=_lengths(data["shape"]),
            chunks=_lengths(data["chunks"]),
            fill_value=data.get("fill_value"),
            separator=data.get("dimension_separator", "."),
        ),
    )


def _lengths(values: list[Any]) -> tuple[int, ...]:
    if not all(isinstance(value, int) and value >= 0 for value in values):
        raise ValueError(f"{values} are not lengths of axes")
    return tuple(values)


def _judged(codecs: list[str], dtype: object, node: Node) -> Node:
    """The node with its dtype where that is one we read, or with the reason why it is refused."""
    known = _known_dtype(dtype)
    strange = sorted(set(codecs) - CODECS)
    refusal = None
    if known is None:
        refusal = f"its voxels are of the type {dtype}; only whole and real numbers are images"
    elif strange:
        refusal = f"it is stored with the codec {', '.join(strange)}, which is not decoded here"
    elif any(length == 0 for length in node.shape):
        refusal = f"it has no voxels: its shape is {node.shape}"
    elif any(len(block) != len(node.shape) or 0 in block for block in (node.chunks, node.shards or node.chunks)):
        refusal = f"its chunks {node.chunks} do not fit its shape {node.shape}"
    elif math.prod(node.chunks) * known.itemsize > _LARGEST_CHUNK:
        refusal = f"its chunks {node.chunks} are more than {_LARGEST_CHUNK >> 30} GiB each; rechunk it first"
    elif node.shards is not None and _chunks_in(node.shards, node.chunks) > _MOST_IN_A_SHARD:
        refusal = f"its shards {node.shards} hold more than {_MOST_IN_A_SHARD} chunks each; rechunk it first"
    return Node(**{**vars(node), "dtype": known, "refusal": refusal})


def _chunks_in(shards: Sequence[int], chunks: Sequence[int]) -> int:
    return math.prod(-(-outer // inner) for outer, inner in zip(shards, chunks, strict=True))


def _known_dtype(dtype: object) -> np.dtype[Any] | None:
    if not isinstance(dtype, str):
        return None
    try:
        found = np.dtype(dtype)
    except TypeError:
        return None
    return found if found.kind in NUMBER_KINDS and found.itemsize <= 8 else None
