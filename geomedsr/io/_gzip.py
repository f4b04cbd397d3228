"""Gzip at the disk's pace: unpacked once and checked, packed by all cores while the file still grows.

Level 2 of ISA-L packs MRI as small as zlib's level 1 to 2 and four times as fast; levels above 3 are zlib-ng's.
"""

from __future__ import annotations

import gzip
import mmap
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import IO, cast

import numpy as np
from isal import igzip, igzip_threaded, isal_zlib
from numpy.typing import NDArray
from zlib_ng import gzip_ng_threaded

from geomedsr.errors import InputError, WriteFailedError
from geomedsr.io._limits import size

__all__ = ["LEVEL", "Packer", "checked_size", "packed", "start_of", "unpacked", "unpacked_size_fits"]

LEVEL = 2
MAGIC = b"\x1f\x8b"

_IN_MEMORY = 256 << 20
_BLOCK = 1 << 20
_MOST_BEHIND = 64 << 20
_LONGEST_WAIT = 0.5
_FASTEST_LEVELS = 3
_DAMAGED = (gzip.BadGzipFile, EOFError, cast(type[Exception], isal_zlib.error))
_HIGHEST_RATIO = 1032  # deflate cannot pack more bytes than this into one


def start_of(path: Path, count: int) -> bytes:
    """The first `count` unpacked bytes (fewer where the file holds fewer), without unpacking the rest.

    Raises:
        InputError: the file is not gzip, or damaged.
    """
    with _gzip_errors(path), igzip.open(path, "rb") as stream:
        return bytes(stream.read(count))


def unpacked_size_fits(path: Path, nbytes: int) -> bool:
    """Whether a packed file of this size can hold so many bytes at all."""
    return nbytes <= _HIGHEST_RATIO * path.stat().st_size


def unpacked(path: Path, nbytes: int) -> mmap.mmap | NDArray[np.uint8]:
    """The first `nbytes` of what was packed; the whole file is read and its checksums are verified.

    Small ones are kept in memory, large ones in a scratch file in the temporary directory that has no name.

    Raises:
        InputError: the file is damaged, or holds less, or much more.
        WriteFailedError: the temporary directory is full.
    """
    with _gzip_errors(path), igzip_threaded.open(path, "rb") as stream:
        held, found = (_in_memory if nbytes <= _IN_MEMORY else _on_disk)(stream, nbytes)
        while more := len(stream.read(_BLOCK)):
            found += more
            if found > nbytes + _MOST_BEHIND:
                raise InputError(f"{path} goes on after its voxels for more than {size(_MOST_BEHIND)}; it is no image.")
    if found < nbytes:
        raise InputError(f"{path} is cut short: {nbytes} bytes are needed, and it unpacks to {found}.")
    return held


def checked_size(path: Path) -> int:
    """How many bytes a file unpacks to, after all of them were unpacked and held against its checksum.

    Raises:
        InputError: the file is damaged.
    """
    found = 0
    with _gzip_errors(path), igzip_threaded.open(path, "rb") as stream:
        while count := len(stream.read(_BLOCK)):
            found += count
    return found


def packed(data: bytes) -> bytes:
    """A few bytes as a gzip file."""
    return bytes(igzip.compress(data, 1))


class Packer:
    """Packs a file behind its writer: `advance` says how much of it is final, `finish` waits for the end.

    The work is done in threads of its own, so that little is left to do once the last voxel is written.
    """

    def __init__(self, raw: Path, target: Path, level: int = LEVEL) -> None:
        self._raw = raw
        self._target = target
        self._level = level
        self._ready = 0
        self._total: int | None = None
        self._stopped = False
        self._changed = threading.Condition()
        self._done: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="packer", daemon=True)
        self._thread.start()

    def advance(self, ready: int) -> None:
        """The first `ready` bytes of the file will not change any more.

        Raises:
            OSError: the packing has failed meanwhile.
        """
        if self._done.done():
            self._done.result()
        with self._changed:
            self._ready = ready
            self._changed.notify()

    def finish(self, total: int) -> None:
        """Packs the rest of the file, `total` bytes in all, and waits.

        Raises:
            OSError: the packing failed.
        """
        with self._changed:
            self._ready = self._total = total
            self._changed.notify()
        self._done.result()
        self._thread.join()

    def stop(self) -> None:
        """Ends the work wherever it is; harmless when done twice or after `finish`."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        try:
            with open(self._raw, "rb", buffering=0) as source, self._stream() as target:
                self._pack(source, target)
        except Exception as error:  # noqa: BLE001 - whoever waits for the result meets it
            self._done.set_exception(error)
        else:
            self._done.set_result(None)

    def _stream(self) -> IO[bytes]:
        library = igzip_threaded if self._level <= _FASTEST_LEVELS else gzip_ng_threaded
        threads = len(os.sched_getaffinity(0))
        return cast(IO[bytes], library.open(self._target, "wb", self._level, threads=threads, block_size=_BLOCK))

    def _pack(self, source: IO[bytes], target: IO[bytes]) -> None:
        done = 0
        while (ready := self._wait_beyond(done)) > done:
            block = source.read(min(_BLOCK, ready - done))
            target.write(block)
            done += len(block)

    def _wait_beyond(self, done: int) -> int:
        """How many bytes are final; no more than `done` means the end."""
        with self._changed:
            # A whole block, or what remains at the end: small blocks pack badly.
            while not self._stopped and self._total is None and self._ready < done + _BLOCK:
                self._changed.wait(_LONGEST_WAIT)
                if not threading.main_thread().is_alive():
                    return done  # the program ends without having said so
            return done if self._stopped else self._ready


def _in_memory(stream: BufferedReader, nbytes: int) -> tuple[NDArray[np.uint8], int]:
    held, found = np.empty(nbytes, dtype=np.uint8), 0
    view = held.data
    while found < nbytes and (count := stream.readinto(view[found : found + _BLOCK])):
        found += count
    return held, found


def _on_disk(stream: BufferedReader, nbytes: int) -> tuple[mmap.mmap, int]:
    found, where = 0, tempfile.gettempdir()
    if (free := shutil.disk_usage(where).free) < nbytes:
        raise WriteFailedError(
            f"The voxels unpack to {size(nbytes)}, and the temporary folder {where} has {size(free)} free; let TMPDIR "
            "name another."
        )
    with tempfile.TemporaryFile(buffering=0) as scratch:
        while found < nbytes and (block := stream.read(min(_BLOCK, nbytes - found))):
            _keep(scratch, block)
            found += len(block)
        return mmap.mmap(scratch.fileno(), 0, access=mmap.ACCESS_READ), found


def _keep(scratch: IO[bytes], block: bytes) -> None:
    try:
        rest = memoryview(block)
        while rest:
            rest = rest[scratch.write(rest) :]
    except OSError as error:
        where = tempfile.gettempdir()
        raise WriteFailedError(
            f"The temporary folder {where} cannot take the unpacked voxels ({error.strerror}); let TMPDIR name another."
        ) from error


@contextmanager
def _gzip_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        with open(path, "rb") as handle:
            is_gzip = handle.read(2) == MAGIC
        if not is_gzip:
            raise InputError(f"{path} is not a gzip file, though its name says so.") from error
        raise InputError(f"{path} is a damaged gzip file: {error}.") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
