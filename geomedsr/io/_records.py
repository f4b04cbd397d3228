"""Where a job keeps its records: small objects by name, and logs that only grow. One seam, so that an object store is
another class.

Every record is on the disk when the call that writes it returns.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from geomedsr.io._staging import write_errors
from geomedsr.io._zarr_place import Place, reach_errors

__all__ = ["FolderRecords", "Records", "RemoteRecords", "flush", "flush_all"]

_GUARD = ".guard"


class Records(Protocol):
    """Objects and logs below one place. Picklable. `patience` is how many seconds what a log gets may wait for more."""

    patience: float

    def __str__(self) -> str:
        """The place, as a user is told it."""
        ...

    def read(self, name: str) -> bytes | None:
        """An object, or None where there is none."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """An object, in place of what was there; a reader sees the one or the other, whole."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """An object, if there is none of that name yet: of those who try at once, one succeeds."""
        ...

    def remove(self, name: str, data: bytes | None = None) -> None:
        """No such object any more; with `data` only if it is this one that is there."""
        ...

    def names(self, prefix: str = "") -> list[str]:
        """The objects and logs whose names begin so, sorted."""
        ...

    def append(self, name: str, data: bytes) -> None:
        """More at the end of a log, which has one writer."""
        ...

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines, without their ends, of a log that `names` gave; the last may be torn."""
        ...

    def mend(self, name: str) -> None:
        """Cuts off a log's last line where it was torn, before its next writer goes on."""
        ...

    def clear(self) -> None:
        """Nothing is left."""
        ...


class FolderRecords:
    """Records in a folder of a file system, which machines may share."""

    patience = 0.5

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def read(self, name: str) -> bytes | None:
        """An object, or None where there is none."""
        with suppress(FileNotFoundError):
            return (self.folder / name).read_bytes()
        return None

    def write(self, name: str, data: bytes) -> None:
        """An object, in place of what was there."""
        with self._beside(name, data) as new:
            os.replace(new, self.folder / name)
            flush(self.folder)

    def create(self, name: str, data: bytes) -> bool:
        """An object, if there is none of that name yet."""
        with self._beside(name, data) as new:
            try:
                os.link(new, self.folder / name)  # whole at once, and never onto another
            except FileExistsError:
                return False
            flush(self.folder)
            return True

    def remove(self, name: str, data: bytes | None = None) -> None:
        """No such object any more; with `data` only if it is this one that is there."""
        with self._guarded():
            if data is None or self.read(name) == data:
                (self.folder / name).unlink(missing_ok=True)

    def names(self, prefix: str = "") -> list[str]:
        """The objects and logs whose names begin so, sorted."""
        with suppress(FileNotFoundError):
            found = [entry.name for entry in os.scandir(self.folder) if entry.is_file(follow_symlinks=False)]
            return sorted(name for name in found if name.startswith(prefix))
        return []

    def append(self, name: str, data: bytes) -> None:
        """More at the end of a log."""
        path = self.folder / name
        with write_errors(path):
            is_new = not path.exists()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            if is_new:
                flush(self.folder)

    def lines(self, name: str) -> Iterator[bytes]:
        """A log's whole lines without their ends; one that is torn, if only of its end, is none."""
        with suppress(FileNotFoundError), open(self.folder / name, "rb") as file:
            yield from (line[:-1] for line in file if line.endswith(b"\n"))

    def mend(self, name: str) -> None:
        """Cuts off a log's last line where it was torn."""
        with suppress(FileNotFoundError), open(self.folder / name, "r+b") as file:
            end = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - 4096)
                file.seek(start)
                found = file.read(end - start).rfind(b"\n")
                if found >= 0:
                    end = start + found + 1
                    break
                end = start
            file.truncate(end)

    def clear(self) -> None:
        """The folder is gone, with all in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @contextmanager
    def _beside(self, name: str, data: bytes) -> Iterator[Path]:
        """The data in a file of its own, flushed."""
        new = self.folder / f".{name}-{secrets.token_hex(8)}"
        with write_errors(self.folder / name):
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                with open(new, "xb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                yield new
            finally:
                new.unlink(missing_ok=True)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Alone among the processes of this machine, while it lasts: to look and then act."""
        try:
            descriptor = os.open(self.folder / _GUARD, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:  # there is nothing to guard, or no room for it
            yield
            return
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class RemoteRecords:
    """Records as objects of a store at a URL. Nothing can be appended there: each addition to a log is an object."""

    patience = 5.0

    def __init__(self, folder: Path) -> None:
        self._place = Place(folder)

    def __str__(self) -> str:
        return str(self._place)

    def read(self, name: str) -> bytes | None:
        """An object, or None where there is none."""
        with reach_errors(self._place):
            return (self._place / name).read()

    def write(self, name: str, data: bytes) -> None:
        """An object, in place of what was there."""
        with write_errors(self._place.path / name):
            (self._place / name).write(data)

    def create(self, name: str, data: bytes) -> bool:
        """An object, if there is none of that name yet."""
        with write_errors(self._place.path / name):
            return (self._place / name).create(data)

    def remove(self, name: str, data: bytes | None = None) -> None:
        """No such object any more; with `data` only if it is this one that is there."""
        if data is None or self.read(name) == data:
            (self._place / name).delete()

    def names(self, prefix: str = "") -> list[str]:
        """The objects, and the additions to logs, whose names begin so, sorted."""
        with reach_errors(self._place):
            return [name for name in self._place.names() if name.startswith(prefix)]

    def append(self, name: str, data: bytes) -> None:
        """One more addition to a log; their names tell their order."""
        self.write(f"{name}.{time.time_ns():020d}", data)

    def lines(self, name: str) -> Iterator[bytes]:
        """The lines of one addition to a log."""
        yield from (self.read(name) or b"").splitlines()

    def mend(self, name: str) -> None:
        """Nothing to do: an object is whole, or is not there."""

    def clear(self) -> None:
        """Nothing is left."""
        self._place.remove_all()


def flush(path: Path) -> None:
    """Brings a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_all(paths: Iterable[Path]) -> None:
    """Brings files and their names to the disk, those that exist; many at once, as each waits for the device.

    Raises:
        WriteFailedError: the device has lost one.
    """
    files = set(paths)
    with ThreadPoolExecutor(8) as pool:
        for part in (files, {path.parent for path in files}):
            list(pool.map(_flush_if_there, part))


def _flush_if_there(path: Path) -> None:
    with write_errors(path), suppress(FileNotFoundError):
        flush(path)
