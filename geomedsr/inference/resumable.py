"""Work that can be taken up again where it was left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from geomedsr.tiling import Tile

__all__ = ["Resumable"]


class Resumable:
    """Tiles that can be taken up again where they were left, though a reader had already run ahead."""

    def __init__(self, tiles: Iterable[Tile]) -> None:
        self._tiles = iter(tiles)
        self._taken: list[Tile] = []

    def __iter__(self) -> Iterator[Tile]:
        for tile in self._tiles:
            self._taken.append(tile)
            yield tile

    def done(self) -> None:
        """The first of those taken needs no second turn."""
        self._taken.pop(0)

    def left(self) -> Iterator[Tile]:
        """Those taken and not done, and those never taken."""
        return chain(self._taken, self._tiles)
