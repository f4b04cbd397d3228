"""A folder that zarr writes into, and that can be taken apart: whoever ends it waits for the writes under way."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

__all__ = ["EndableStore"]

_LONGEST_WAIT = 60.0


class EndableStore(LocalStore):
    """A folder. Where one write fails, zarr reports it while its other threads still write; `end` waits for them."""

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._changed = Condition()
        self._under_way = 0
        self._has_ended = False

    def end(self) -> None:
        """Lets the writes under way come to their end, and refuses all later ones."""
        with self._changed:
            self._has_ended = True
            self._changed.wait_for(lambda: not self._under_way, _LONGEST_WAIT)

    async def set(self, key: str, value: Buffer) -> None:
        """Writes an object."""
        with self._writing():
            await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Writes an object, unless it is there."""
        with self._writing():
            await super().set_if_not_exists(key, value)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._changed:
            if self._has_ended:
                raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED))
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()
