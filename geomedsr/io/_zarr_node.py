"""What a folder of a zarr store says of itself, read as plain JSON and judged before any of its data is decoded.

Only arrays of whole and real numbers are let in, behind codecs from a list: a codec of another name could run code
or decode into anything. Links are not followed, so that a store cannot show what lies outside of it.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from geomedsr.errors import InputError
from geomedsr.io._admitted import CHECKSUMS, CODECS, FILTERS, NUMBER_KINDS, SHARDING
from geomedsr.io._limits import limits, size
from geomedsr.io._zarr_place import Place

__all__ = ["Node", "checked_name", "consolidated_names", "read_node"]

_MOST_IN_A_SHARD = 1 << 22
"""Chunks in a shard: its index has 16 bytes for each, and is read whole."""
_LONGEST_NAME = 255
_LONGEST_CHECKSUM = 8
_LONGEST_NUMBER = 8


@dataclass(frozen=True)
class Node:
    """An array or a group of a zarr store, as its metadata says.

    `chunks` is the block that is compressed, `shards` the object that holds many of them (None: none does).
    `index_place` is where a shard tells which chunks it has: at its "start" or "end", and how many bytes of checksum
    follow; None where it does so in a way of its own. `unpacked` is the most bytes that a compressed part of it unpacks
    to. `refusal` is why an array is not read (None: nothing is wrong with it).
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
    unpacked: int = 0
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
            return Node(path, 2, is_array=False, attributes=_attributes(_json(place / ".zattrs")))
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
    if max(map(len, parts)) > _LONGEST_NAME:
        raise InputError(f"The metadata of {path} names '{text:.80}...', which is too long for a name.")
    if any((path / "/".join(parts[:count])).is_symlink() for count in range(1, len(parts) + 1)):
        raise InputError(f"The metadata of {path} names '{text:.80}', which is a link; it is not followed.")
    return text


def _json(place: Place) -> dict[str, Any] | None:
    if not place.is_remote:
        _check_plain(place.path)
    text = place.read()
    if text is None:
        return None
    data = json.loads(text.decode("utf-8"))
    if not isinstance(data, dict):
        raise TypeError(f"{place.path.name} holds no object")
    return data


def _check_plain(path: Path) -> None:
    """Refuses metadata that leads elsewhere, or that is larger than words ever are.

    Raises:
        OSError: it does, or it is.
    """
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    if stat.S_ISLNK(found.st_mode):
        raise OSError(f"{path.name} is a link, which is not followed")
    if found.st_size > limits().text:
        raise OSError(f"{path.name} has {size(found.st_size)}, more than the {size(limits().text)} allowed")


def _attributes(told: object) -> dict[str, Any]:
    if not isinstance(told or {}, dict):
        raise TypeError("the attributes are no object")
    return dict(told or {})  # type: ignore[call-overload, no-any-return]


def _of_format_3(path: Path, data: dict[str, Any]) -> Node:
    attributes = _attributes(data.get("attributes"))
    if data["node_type"] == "group":
        return Node(path, 3, is_array=False, attributes=attributes)
    codecs = _codecs_3(data["codecs"])
    shard = next((codec for codec in codecs if codec.get("name") == SHARDING), None)
    around = codecs if shard is None else _codecs_3(shard["configuration"]["codecs"])
    outer = _lengths(data["chunk_grid"]["configuration"]["chunk_shape"])
    inner = [_lengths(codec["configuration"]["chunk_shape"]) for codec in codecs if codec.get("name") == SHARDING]
    named = data.get("dimension_names")
    keys = data["chunk_key_encoding"]
    key_prefix, separator = ((), ".") if keys["name"] == "v2" else (("c",), "/")
    return _judged(
        _named(codecs),
        _named(around),
        data["data_type"],
        Node(
            path,
            3,
            is_array=True,
            attributes=attributes,
            shape=_lengths(data["shape"]),
            chunks=inner[0] if inner else outer,
            shards=outer if inner else None,
            index_place=_index_place(codecs) if len(data["codecs"]) == 1 else None,
            fill_value=data.get("fill_value"),
            separator=_separator((keys.get("configuration") or {}).get("separator", separator)),
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


def _named(codecs: list[dict[str, Any]]) -> list[str]:
    return [str(codec.get("name")).removeprefix("numcodecs.") for codec in codecs]


def _separator(told: object) -> str:
    if told not in (".", "/"):
        raise ValueError(f"the separator of its keys is {told!r}, neither . nor /")
    return str(told)


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
    names = [str(codec["id"]) for codec in codecs]
    return _judged(
        names,
        names,
        data["dtype"],
        Node(
            path,
            2,
            is_array=True,
            attributes=attributes,
            shape=_lengths(data["shape"]),
            chunks=_lengths(data["chunks"]),
            fill_value=data.get("fill_value"),
            separator=_separator(data.get("dimension_separator", ".")),
        ),
    )


def _lengths(values: list[Any]) -> tuple[int, ...]:
    if not all(isinstance(value, int) and value >= 0 for value in values):
        raise ValueError(f"{values} are not lengths of axes")
    return tuple(values)


def _judged(codecs: list[str], around: list[str], dtype: object, node: Node) -> Node:
    """The node with its dtype where that is one we read, or with the reason why it is refused.

    `codecs` are all that it names, `around` those between a chunk's voxels and what is stored of it.
    """
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
    elif (nbytes := math.prod(node.chunks) * known.itemsize) > limits().block:
        refusal = (
            f"its chunks {node.chunks} have {size(nbytes)} each, more than the {size(limits().block)} that may be read "
            f"at once; rechunk it, or pass --max-block {-(-nbytes // 10**9)}GB"
        )
    elif node.shards is not None and _chunks_in(node.shards, node.chunks) > _MOST_IN_A_SHARD:
        refusal = f"its shards {node.shards} hold more than {_MOST_IN_A_SHARD} chunks each; rechunk it first"
    unpacked = 0 if known is None or refusal else _unpacked(node, known.itemsize, around)
    return Node(**{**vars(node), "dtype": known, "unpacked": unpacked, "refusal": refusal})


def _unpacked(node: Node, itemsize: int, codecs: list[str]) -> int:
    """The most bytes that anything compressed of an array unpacks to: a chunk, unless codecs change its length."""
    if node.shards is not None and node.index_place is None:  # the shard as a whole may be compressed, or its index
        count = _chunks_in(node.shards, node.chunks)
        whole = math.prod(node.shards) * _LONGEST_NUMBER + count * (16 + _LONGEST_CHECKSUM * len(codecs))
        return min(whole, limits().block)
    widest = _LONGEST_NUMBER if FILTERS & set(codecs) else itemsize
    checksums = sum(codec in CHECKSUMS for codec in codecs)
    return math.prod(node.chunks) * widest + _LONGEST_CHECKSUM * checksums


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
