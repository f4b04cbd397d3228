"""Where a zarr store is: a local folder, or a URL of an object store (`s3://bucket/scene.zarr`).

A URL travels through the program as a path whose first part is its scheme (`s3:/bucket/scene.zarr`), so that names,
parents and members of stores are those of paths everywhere; only here it becomes a URL again. Nothing is fetched but
what a URL names that the user typed, and credentials come from the environment alone, by the libraries' own rules.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geomedsr.errors import GeomedsrError, InputError, OutputError

__all__ = ["Place", "is_url", "reach_errors", "remote_errors"]

_SCHEMES = ("s3", "gs", "gcs", "https", "http", "memory")
_URL = re.compile(rf"^({'|'.join(_SCHEMES)}):/+(.*)$", re.DOTALL)
_UNLISTED = ("https", "http")
_LIBRARIES = {"aiobotocore", "aiohttp", "botocore", "gcsfs", "google"}
"""Whose errors are those of a disk that is far away."""


def is_url(path: Path | str) -> bool:
    """Whether a path stands for a URL.

    Example:
        >>> is_url("s3://bucket/a.zarr"), is_url(Path("s3://bucket/a.zarr")), is_url("folder/a.zarr")
        (True, True, False)
    """
    return _URL.match(os.fspath(path)) is not None


@contextmanager
def remote_errors() -> Iterator[None]:
    """Turns what the libraries for object stores raise into errors of the system, as a disk would raise them."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) or type(error).__module__.partition(".")[0] not in _LIBRARIES:
            raise
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error


@contextmanager
def reach_errors(place: Place) -> Iterator[None]:
    """Turns what keeps an output's place at a URL from being looked at into one sentence."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{place} cannot be reached: {error.strerror or error}; check the address, and the credentials in the "
            "environment."
        ) from error


@dataclass(frozen=True)
class Place:
    """A folder of objects, local or remote; `path` is its name in the program.

    Example:
        >>> str(Place(Path("s3://bucket/a.zarr")) / "c/0")
        's3://bucket/a.zarr/c/0'
    """

    path: Path

    def __truediv__(self, name: str) -> Place:
        return Place(self.path / name)

    def __str__(self) -> str:
        found = _URL.match(os.fspath(self.path))
        return f"{found[1]}://{found[2]}" if found else os.fspath(self.path)

    @property
    def is_remote(self) -> bool:
        """Whether it is a URL."""
        return is_url(self.path)

    @property
    def is_listed(self) -> bool:
        """Whether it can be asked for what is in it: a plain web server cannot."""
        return not str(self).startswith(_UNLISTED)

    def read(self) -> bytes | None:
        """The object with this name, or None where there is none.

        Raises:
            OSError: it cannot be read.
        """
        if not self.is_remote:
            return self.path.read_bytes() if self.path.is_file() else None
        system, key = self._system()
        try:
            with remote_errors():
                return bytes(system.cat_file(key))
        except (FileNotFoundError, IsADirectoryError):
            return None

    def read_end(self, count: int, *, of: str) -> bytes:
        """Up to so many bytes from the `start` or the `end` of the object here.

        Raises:
            OSError: it is not there, or cannot be read.
        """
        if self.is_remote:
            system, key = self._system()
            span = (0, count) if of == "start" else (-count, None)
            with remote_errors():
                return bytes(system.cat_file(key, start=span[0], end=span[1]))
        with open(self.path, "rb") as file:
            if of == "end":
                file.seek(max(0, os.fstat(file.fileno()).st_size - count))
            return file.read(count)

    def write(self, data: bytes) -> None:
        """Puts an object here, whole or not at all."""
        if self.is_remote:
            system, key = self._system()
            with remote_errors():
                system.pipe_file(key, data)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}.partial")
        partial.write_bytes(data)
        os.replace(partial, self.path)

    def create(self, data: bytes) -> bool:
        """Puts an object at a URL if there is none; of those who try at once one succeeds, where the store can tell."""
        system, key = self._system()
        try:
            with remote_errors():
                if system.exists(key):
                    return False
                system.pipe_file(key, data, mode="create")
        except OSError as error:
            if isinstance(error, FileExistsError) or "PreconditionFailed" in f"{error!r} {error.__cause__!r}":
                return False
            raise
        return True

    def names(self) -> list[str]:
        """The objects right in a folder of a URL, sorted."""
        system, key = self._system()
        try:
            with remote_errors():
                entries = system.ls(key, detail=True, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(str(entry["name"]).rpartition("/")[2] for entry in entries if entry["type"] == "file")

    def delete(self) -> None:
        """Removes the object here; harmless where there is none."""
        if not self.is_remote:
            self.path.unlink(missing_ok=True)
            return
        system, key = self._system()
        with suppress(FileNotFoundError), remote_errors():
            system.rm_file(key)

    def remove_all(self) -> None:
        """Removes a folder of a URL with all that is in it; harmless where there is nothing."""
        system, key = self._system()
        with remote_errors():
            if system.exists(key):
                system.rm(key, recursive=True)

    def exists(self) -> bool:
        """Whether there is an object or a folder with this name."""
        if not self.is_remote:
            return self.path.exists()
        system, key = self._system()
        with remote_errors():
            return bool(system.exists(key))

    def folders(self) -> Iterator[Place]:
        """The folders in it, by name; hidden ones and links are left alone, and what cannot be listed has none."""
        if self.is_remote:
            names = self._remote_folders() if self.is_listed else []
        else:
            entries = os.scandir(self.path)
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        yield from (self / name for name in sorted(names) if not name.startswith("."))

    def names_below(self) -> Iterator[str]:
        """The last name of each object at any depth below, links left out.

        Raises:
            OSError: it cannot be listed.
        """
        if self.is_remote:
            system, key = self._system()
            with remote_errors():
                found = system.find(key)
            yield from (str(path).rpartition("/")[2] for path in found)
            return
        for _, _, names in os.walk(self.path):
            yield from names

    def _remote_folders(self) -> list[str]:
        system, key = self._system()
        with remote_errors():
            entries = system.ls(key, detail=True)
        return [Path(entry["name"]).name for entry in entries if entry["type"] == "directory"]

    def _system(self) -> tuple[Any, str]:
        """The file system of a URL, and the key in it.

        Raises:
            InputError: the library for it is not installed.
        """
        try:
            from fsspec.core import url_to_fs

            system, key = url_to_fs(str(self), use_listings_cache=False)
        except ImportError as error:
            raise _uninstalled(self, error) from error
        return system, str(key)

    def remote_store(self, *, read_only: bool) -> Any:  # noqa: ANN401 - zarr's store, which only the doors to zarr know
        """What zarr reads and writes a URL through.

        Raises:
            GeomedsrError: the library for it is not installed, or it is read-only.
        """
        from zarr.storage import FsspecStore

        if not read_only and not self.is_listed:
            raise GeomedsrError(f"{self} cannot be written to: a web server only gives; choose s3:// or gs://.")
        try:
            return FsspecStore.from_url(str(self), read_only=read_only)
        except ImportError as error:
            raise _uninstalled(self, error) from error


def _uninstalled(place: Place, error: ImportError) -> InputError:
    return InputError(f"{place} needs more than is installed ({error}); run: pip install 'geomedsr[remote]'.")
