"""How an array is stored: its format, its chunks and shards, its compression."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from geomedsr.errors import GeomedsrError
from geomedsr.grid import Shape
from geomedsr.io._zarr_node import Node

__all__ = ["COMPRESSORS", "Storage"]

COMPRESSORS = ("blosc", "zstd", "gzip", "none")
"""What the option `compressor` takes; blosc is lz4 on shuffled bits, the fastest of them."""

_DEFAULT_CHUNKS = {2: (512, 512), 3: (64, 64, 64)}
_LARGEST_BLOCK = 1 << 22
"""Voxels of the largest block of a source that its output takes over: a block is the least that is in memory."""

_BLOSC_LIMIT = (1 << 31) - 1


@dataclass(frozen=True)
class Storage:
    """The way an array is stored; `chunks` and `shards` are on the spatial axes, each channel has its own."""

    zarr_format: int = 3
    chunks: Shape | None = None
    shards: Shape | None = None
    separator: str | None = None
    compressor: str = "blosc"

    @classmethod
    def of(cls, node: Node, ndim: int) -> Storage:
        """How an array is stored, so far as its output takes it over; the compression is its own."""
        chunks = node.chunks[-ndim:]
        shards = None if node.shards is None else node.shards[-ndim:]
        if math.prod(shards or chunks) > _LARGEST_BLOCK:
            return cls(node.zarr_format, separator=node.separator)
        return cls(node.zarr_format, chunks, shards, node.separator)

    def with_options(self, options: Mapping[str, str]) -> Storage:
        """The same with what the user asks for: `chunks`, `shards`, `compressor`, `zarr_format`.

        Raises:
            GeomedsrError: an option is unknown, or its value cannot be.
        """
        known: dict[str, Callable[[str], dict[str, object]]] = {
            "zarr_format": lambda text: _format(_one_of("zarr_format", text, ("2", "3"))),
            "chunks": lambda text: {"chunks": _lengths("chunks", text), "shards": None},
            "shards": lambda text: {"shards": _lengths("shards", text)},
            "compressor": lambda text: {"compressor": _one_of("compressor", text, COMPRESSORS)},
        }
        asked = {key.lower(): text for key, text in options.items()}
        for key in asked:
            if key not in known:
                raise GeomedsrError(f"zarr has no option '{key}'; it has {', '.join(known)}.")
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
        if math.prod(chunks) * itemsize > _BLOSC_LIMIT:
            raise GeomedsrError(f"A chunk of {chunks} voxels is more than 2 GiB; choose smaller chunks.")
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
