"""Write beside, rename at commit: a target is either its old self or complete, whatever happens in between.

Every sink keeps one order: it writes into its staging, closes what it wrote, and publishes. Publishing flushes to the
disk, lets the checks open the file again (its size, the numbers that were written, its geometry), and renames.

The output grows in one folder beside the target, `.geomedsr-<name>`, and a lock on a file in it says that its writer
lives. The system drops that lock with the process, however it ends, so the next run at the same target knows a
leftover from a neighbour: a leftover is swept, a neighbour is left in peace and the run is refused.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import math
import os
import shutil
import stat
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path

from geomedsr.errors import OutputError, WriteFailedError

__all__ = ["Staging", "inside", "take_place", "write_errors"]

_MARK = ".geomedsr-"
_OWNER = ".owner"
_REPLACED = ".replaced"
_LONGEST_NAME = 255
_TRIES = 100
_READ_ONLY = (errno.EACCES, errno.EROFS, errno.EPERM)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOLCK)

_PORTION = 4096
"""So many files are flushed before more are looked for."""


class Staging:
    """A folder beside the target in which the output grows until it is complete.

    `Staging(target).path` is where to write, with the target's own name (a driver that looks at suffixes sees the
    right one). `publish()` flushes it to the disk and renames it onto the target; `discard()` removes it, and so does
    the end of the program. Other scratch files may live in `folder` too. `as_folder` says that the output is a folder
    (a zarr store) and not a file; neither ever replaces the other.

    Raises:
        OutputError: the parent is missing or read-only, the target is of the other kind, or another run writes it.
    """

    def __init__(self, target: Path, *, as_folder: bool = False) -> None:
        self.target = target
        _check(target, as_folder)
        try:
            self.folder, lock = _claimed(target)
        except OSError as error:
            raise _refusal(target.parent, error) from error
        self.path = self.folder / target.name
        self._release = weakref.finalize(self, _released, self.folder, lock, os.getpid())

    def check_complete(self, written: int, shape: tuple[int, ...]) -> None:
        """Refuses an image of which not every voxel was written (each once).

        Raises:
            WriteFailedError: with both numbers.
        """
        if written != (expected := math.prod(shape)):
            raise WriteFailedError(f"{self.target} was given {written} of its {expected} voxels.")

    def publish(self, *companions: Path, checks: Iterable[Callable[[Path], None]] = ()) -> None:
        """The staged file (or folder) takes the target's place; `companions` in `folder` move beside it first.

        It is brought to the disk before that, and `checks` look at it there; where one raises, the target is as it was.

        A file is replaced in one step of the system. So is a folder where the system can exchange two names (Linux
        on its own file systems); elsewhere there is a moment in which the old folder is set aside, and the next run
        puts it back should the machine stop just then. Companions are put back should a later move fail.
        """
        moves = [(path, self.target.parent / path.name) for path in (*companions, self.path)]
        with write_errors(self.target):
            for staged, _ in moves:
                _flush(staged)
        for check in checks:
            check(self.path)
        with write_errors(self.target), ExitStack() as undo:
            for staged, target in moves:
                undo.callback(_put_in_place(staged, target, self.folder / _REPLACED))
            _flush_names(self.target.parent)
            undo.pop_all()
        self.discard()

    def discard(self) -> None:
        """Removes all that was staged; harmless when done twice or after `publish`."""
        self._release()


def take_place(staged: Path, target: Path, aside: Path) -> None:
    """A folder that is complete takes the target's place, in one step where the system can; flushed before.

    What was there is left at `staged` or `aside`.

    Raises:
        WriteFailedError: it cannot be moved; the target is as it was.
    """
    with write_errors(target):
        _flush(staged)
        _put_in_place(staged, target, aside)
        _flush_names(target.parent)


@contextmanager
def write_errors(target: Path) -> Iterator[None]:
    """Turns the system's refusals while writing into one sentence about `target`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise WriteFailedError(f"The disk is full: {target} was not written, and nothing was changed.") from error
        raise WriteFailedError(f"{target} could not be written: {error.strerror or error}.") from error


def _check(target: Path, as_folder: bool) -> None:
    if not target.parent.is_dir():
        raise OutputError(f"The folder {target.parent} does not exist; make it first, or choose another output.")
    if target.exists() and target.is_dir() != as_folder:
        found, wanted = ("a file", "a folder") if as_folder else ("a folder", "a file")
        raise OutputError(
            f"{target} is {found}, and the output would be {wanted}; remove it, or choose another output."
        )


def _refusal(parent: Path, error: OSError) -> OutputError | WriteFailedError:
    if error.errno in _FULL:
        return WriteFailedError(f"The disk is full: nothing can be written into {parent}.")
    reason = "it is read-only" if error.errno in _READ_ONLY else error.strerror or str(error)
    return OutputError(f"Nothing can be written into the folder {parent}: {reason}.")


def _claimed(target: Path) -> tuple[Path, int | None]:
    """The target's staging folder, empty and ours alone, and the lock that says so."""
    folder = target.parent / _staging_name(target.name)
    for _ in range(_TRIES):
        with suppress(FileExistsError):
            folder.mkdir()
        _check_ours(folder)
        try:
            lock = _locked(folder / _OWNER)
        except FileNotFoundError:
            continue  # its last owner has just removed it
        except BlockingIOError as error:
            raise OutputError(f"{target} is being written by another run; wait for it, or end it.") from error
        except OSError as error:
            with suppress(OSError):
                (folder / _OWNER).unlink(missing_ok=True)
                folder.rmdir()
            if error.errno not in _UNSUPPORTED:
                raise
            # A file system without locks: nobody can tell a leftover from a neighbour, so keep out of the way of both.
            return Path(tempfile.mkdtemp(prefix=f"{folder.name[:80]}-", dir=target.parent)), None
        _put_back(target, folder / _REPLACED)
        _emptied(folder)
        return folder, lock
    raise OutputError(f"{folder} comes and goes: other runs are writing {target}; wait for them.")


def _staging_name(name: str) -> str:
    whole = f"{_MARK}{name}"
    if len(os.fsencode(whole)) <= _LONGEST_NAME:
        return whole
    return f"{_MARK}{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}"


def _check_ours(folder: Path) -> None:
    """Refuses a name that somebody else has put there: in a shared folder it could lead anywhere."""
    with suppress(FileNotFoundError):
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise OutputError(f"{folder} is in the way and was not made by this user; remove it.")


def _locked(path: Path) -> int:
    """A descriptor that holds the lock on a file which still has this name.

    Raises:
        BlockingIOError: a living process holds it.
        FileNotFoundError: the file was removed meanwhile.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.path.samestat(os.fstat(lock), os.lstat(path)):
            raise FileNotFoundError(path)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _put_back(target: Path, replaced: Path) -> None:
    """The old folder returns to its place if a run was ended between taking it away and putting the new one there."""
    if os.path.lexists(replaced) and not os.path.lexists(target):
        os.rename(replaced, target)


def _emptied(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == _OWNER:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _released(folder: Path, lock: int | None, owner: int) -> None:
    """Removes the folder, the lock last, so that no moment shows a folder that looks abandoned."""
    if os.getpid() != owner:
        return  # a forked child: the folder is its parent's
    with suppress(OSError):
        _emptied(folder)
        (folder / _OWNER).unlink(missing_ok=True)
        folder.rmdir()
    if lock is not None:
        os.close(lock)


def _put_in_place(staged: Path, target: Path, aside: Path) -> Callable[[], object]:
    """Moves `staged` onto `target`, and gives what undoes it."""
    if not os.path.lexists(target):
        os.rename(staged, target)
        return partial(os.rename, target, staged)
    if _exchanged(staged, target):
        return partial(_exchanged, staged, target)
    if not staged.is_dir():
        os.replace(staged, target)
        return lambda: None
    os.rename(target, aside)
    try:
        os.rename(staged, target)
    except BaseException:
        os.rename(aside, target)
        raise

    def undo() -> None:
        os.rename(target, staged)
        os.rename(aside, target)

    return undo


def _exchanged(first: Path, second: Path) -> bool:
    """Whether the system could let two paths trade places in one step."""
    at_here, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    if renameat2(at_here, os.fsencode(first), at_here, os.fsencode(second), exchange) == 0:
        return True
    code = ctypes.get_errno()
    if code in _UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(second))


def _flush(path: Path) -> None:
    """Brings a file, or a folder with all that is in it, to the disk; many at once, as each waits for the device, but
    never all, of which a store has too many to be listed.
    """
    paths = inside(path)
    with ThreadPoolExecutor(8) as pool:
        while portion := tuple(islice(paths, _PORTION)):
            list(pool.map(_flush_names, portion))


def inside(path: Path) -> Iterator[Path]:
    """All that is in a folder, at any depth, and the folder; or a file alone."""
    if path.is_dir():
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from inside(path / entry.name)
                else:
                    yield path / entry.name
    yield path


def _flush_names(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
