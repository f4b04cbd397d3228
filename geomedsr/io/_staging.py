"""Write beside, rename at commit: a target is either its old self or complete, whatever happens in between."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geomedsr.errors import OutputError, WriteFailedError

__all__ = ["Staging", "write_errors"]

_MARK = ".geomedsr-"


class Staging:
    """A folder beside the target in which the output grows until it is complete.

    `Staging(target).path` is where to write, with the target's own name (a driver that looks at suffixes sees the
    right one). `publish()` flushes it to the disk and renames it onto the target; `discard()` removes it. Other
    scratch files may live in `folder` too.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        parent = target.parent
        if not parent.is_dir():
            raise OutputError(f"The folder {parent} does not exist; make it first, or choose another output.")
        try:
            self.folder = Path(tempfile.mkdtemp(prefix=f"{_MARK}{target.name[:80]}-", dir=parent))
        except OSError as error:
            reason = "is read-only" if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM) else error.strerror
            raise OutputError(f"Nothing can be written into the folder {parent}: it {reason}.") from error
        self.path = self.folder / target.name

    def publish(self, *companions: Path) -> None:
        """The staged file (or folder) takes the target's place; `companions` in `folder` move beside it first."""
        with write_errors(self.target):
            for source in (*companions, self.path):
                _flush(source)
            for source in companions:
                os.replace(source, self.target.parent / source.name)
            if self.target.is_dir() and not self.target.is_symlink():
                os.replace(self.target, self.folder / "replaced")
            os.replace(self.path, self.target)
            _flush_folder(self.target.parent)
        self.discard()

    def discard(self) -> None:
        """Removes all that was staged; harmless when done twice or after `publish`."""
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def write_errors(target: Path) -> Iterator[None]:
    """Turns the system's refusals while writing into one sentence about `target`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise WriteFailedError(f"The disk is full: {target} was not written, and nothing was changed.") from error
        raise WriteFailedError(f"{target} could not be written: {error.strerror or error}.") from error


def _flush(path: Path) -> None:
    files = [p for p in path.rglob("*") if p.is_file()] if path.is_dir() else [path]
    for file in files:
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
