"""How an array is stored: its format, its chunks and shards, its compression."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from geomedsr.errors import GeomedsrError
from geomedsr.grid import Shape
from geomedsr.io._limits import limits, size
from geomedsr.io._zarr_node import Node

__all__ = ["COMPRESSORS", "LAYOUTS", "Storage"]

COMPRESSORS = ("blosc", "zstd", "gzip", "none")
"""What the option `compressor` takes; blosc is lz4 on shuffled bits, the fastest of them."""

_DEFAULT_CHUNKS = {2: (512, 512), 3: (64, 64, 64)}
_LARGEST_BLOCK = 1 << 22
"""Voxels of the largest block of a source that its output takes over: a block is the least that is in memory."""

_LARGE = 256 << 20
"""Bytes of a channel from which on it has shards: a store of many small objects is slow to list, copy and delete."""

_OBJECT = 16 << 20
"""Bytes, before compression, that a shard has at least."""

LAYOUTS = ("plain", "ome", "geo")
"""What the option `layout` takes."""

_PROFILES: dict[str, dict[str, object]] = {
    "qgis": {"zarr_format": 2, "shards": None, "separator": None, "together": True, "may_shard": False}
}
"""What GDAL reads, from 3.8 on and so QGIS: format 2, all bands in one array. 3.12 still knows no shards."""

_BLOSC_LIMIT = (1 << 31) - 1


@dataclass(frozen=True)
class Storage:
    """The way an image is stored; `chunks` and `shards` are on the spatial axes, each channel has its own.

    `layout` is the convention that was asked for (None: what fits the image), `together` says that all channels are in
    one array, and `may_shard` that the size of an image decides whether it has shards.
    """

    zarr_format: int = 3
    chunks: Shape | None = None
    shards: Shape | None = None
    separator: str | None = None
    compressor: str = "blosc"
    layout: str | None = None
    together: bool = False
    may_shard: bool = True

    @classmethod
    def of(cls, node: Node, ndim: int, taken: Callable[[Sequence[int]], Shape] = tuple) -> Storage:
        """How an array is stored, so far as its output takes it over; the compression is its own.

        `taken` gives numbers for the stored axes of space in the image's order.
        """
        chunks = taken(node.chunks[-ndim:])
        shards = None if node.shards is None else taken(node.shards[-ndim:])
        if math.prod(shards or chunks) > _LARGEST_BLOCK:
            return cls(node.zarr_format, separator=node.separator)
        return cls(node.zarr_format, chunks, shards, node.separator)

    def with_options(self, options: Mapping[str, str]) -> Storage:
        """The same with what the user asks for: chunks, shards, compressor, zarr_format, layout and profile.

        Raises:
            GeomedsrError: an option is unknown, or its value cannot be.
        """
        known: dict[str, Callable[[str], dict[str, object]]] = {
            "profile": lambda text: dict(_PROFILES[_one_of("profile", text, tuple(_PROFILES))]),
            "layout": lambda text: {"layout": _one_of("layout", text, LAYOUTS)},
            "zarr_format": lambda text: _format(_one_of("zarr_format", text, ("2", "3"))),
            "chunks": lambda text: {"chunks": _lengths("chunks", text), "shards": None, "may_shard": False},
            "shards": lambda text: {"shards": _shards(text), "may_shard": False},
            "compressor": lambda text: {"compressor": _one_of("compressor", text, COMPRESSORS)},
        }
        asked = {key.lower(): text for key, text in options.items()}
        for key in asked:
            if key not in known:
                raise GeomedsrError(f"zarr has no option '{key}'; it has {', '.join(sorted(known))}.")
        changes: dict[str, object] = {}
        for key in known:  # in this order: format 2 and new chunks drop the source's shards, and asked shards stay
            if key in asked:
                changes.update(known[key](asked[key]))
        return replace(self, **changes)  # type: ignore[arg-type]

    def fitted(self, shape: Shape, itemsize: int) -> Storage:
        """The same with chunks and shards for an image of this shape.

        Raises:
            GeomedsrError: they cannot be.
        """
        chunks = _spread("chunks", self.chunks or _DEFAULT_CHUNKS[len(shape)], len(shape))
        if math.prod(chunks) * itemsize > (most := min(_BLOSC_LIMIT, limits().block)):
            raise GeomedsrError(f"A chunk of {chunks} voxels is more than {size(most)}; choose smaller chunks.")
        if self.shards is None and self.may_shard and self.zarr_format == 3:
            shards = _shards_for(chunks, shape, itemsize)
            if shards is not None:
                return replace(self, chunks=chunks, shards=shards)
        if self.shards is None:
            # A chunk larger than the image would be padded in memory and on the disk.
            return replace(self, chunks=tuple(min(c, n) for c, n in zip(chunks, shape, strict=True)), shards=None)
        shards = _spread("shards", self.shards, len(shape))
        if self.zarr_format == 2:
            raise GeomedsrError("Format 2 of zarr has no shards; leave them out, or choose zarr_format=3.")
        if any(s % c for s, c in zip(shards, chunks, strict=True)):
            raise GeomedsrError(f"Shards are whole multiples of the chunks; {shards} is not one of {chunks}.")
        return replace(self, chunks=chunks, shards=shards)

    @property
    def block(self) -> Shape:
        """The voxels of one object in the store: what is written at once."""
        block = self.shards or self.chunks
        assert block is not None, "fitted() comes first"
        return block


def _lengths(option: str, text: str) -> Shape:
    try:
        values = tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError:
        values = ()
    if not values or min(values) < 1:
        raise GeomedsrError(f"The option {option} takes numbers of voxels such as 256,256; got '{text}'.")
    return values


def _shards(text: str) -> Shape | None:
    return None if text.lower() == "none" else _lengths("shards", text)


def _shards_for(chunks: Shape, shape: Shape, itemsize: int) -> Shape | None:
    """Shards of a few chunks on each axis for an image that is large; None for others, or where chunks are large."""
    if math.prod(shape) * itemsize < _LARGE:
        return None
    counts = [1] * len(shape)
    while math.prod(chunks) * math.prod(counts) * itemsize < _OBJECT:
        # The axis on which a shard is shortest, of those on which the image goes on.
        open_axes = [i for i, c in enumerate(chunks) if c * counts[i] < shape[i]]
        if not open_axes:
            break
        counts[min(open_axes, key=lambda i: chunks[i] * counts[i])] *= 2
    shards = tuple(c * n for c, n in zip(chunks, counts, strict=True))
    return None if shards == chunks else shards


def _format(text: str) -> dict[str, object]:
    changes: dict[str, object] = {"zarr_format": int(text), "separator": None}
    return changes | {"shards": None} if text == "2" else changes


def _one_of(option: str, text: str, known: Sequence[str]) -> str:
    if text.lower() not in known:
        raise GeomedsrError(f"The option {option} takes one of {', '.join(known)}; got '{text}'.")
    return text.lower()


def _spread(option: str, lengths: Shape, ndim: int) -> Shape:
    lengths = lengths * ndim if len(lengths) == 1 else lengths
    if len(lengths) != ndim:
        raise GeomedsrError(f"The option {option} has {len(lengths)} numbers; the image has {ndim} axes.")
    return lengths
