"""Where a job keeps its records, and what they say of who is at it and which outputs lie in their places."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from geomedsr.errors import JobError
from geomedsr.inference.journal import JOURNAL, Manifest
from geomedsr.inference.lock import Owner
from geomedsr.io import is_url, suffix_of
from geomedsr.io._records import FolderRecords, Records, RemoteRecords
from geomedsr.io._zarr_output import is_complete
from geomedsr.io._zarr_place import Place

__all__ = [
    "BEGUN",
    "CLAIMED",
    "LOCK",
    "PLACED",
    "clear",
    "forget",
    "holders",
    "inode",
    "keep_to",
    "placed",
    "records_beside",
]

FOLDER, LOCK, BEGUN, PLACED, CLAIMED = ".geomedsr-job", "lock-", "begun-", "placed-", "claimed-"
_DEVICE = "device"


def records_beside(out: Path) -> Records:
    """Where the job that makes an output keeps its records: inside a folder of outputs, beside a lone one."""
    folder = out / FOLDER if suffix_of(out) is None else out.with_name(f"{FOLDER}-{out.name}")
    return RemoteRecords(folder) if is_url(out) else FolderRecords(folder)


def holders(records: Records) -> Iterator[Owner]:
    """Who holds a lock on a job, as far as is known."""
    for name in records.names(LOCK):
        owner = Owner.read(records.read(name) or b"")
        if owner is not None and not owner.is_gone:
            yield owner


def placed(records: Records, manifest: Manifest) -> set[int]:
    """The images that were moved to their places, whether that was journaled or not."""
    images = [int(name.removeprefix(PLACED)) for name in records.names(PLACED)]
    targets = {image: Path(manifest.entries[image].target) for image in images}
    return {image for image, target in targets.items() if records.read(f"{PLACED}{image}") == inode(target)}


def keep_to(records: Records, kind: str) -> None:
    """The kind of device that a job keeps to from its first block on.

    Raises:
        JobError: it was begun on another kind, which gives other bits.
    """
    if not records.create(_DEVICE, kind.encode()) and (was := (records.read(_DEVICE) or b"").decode()) != kind:
        raise JobError(
            f"What was begun in {records} was computed on {was}, and this run has {kind}, which gives other bits. "
            f"Go on with --device {was}, or pass --restart to throw away what is done and begin anew."
        )


def forget(records: Records) -> None:
    """Removes what an unfinished job has done, for whoever holds its lock."""
    _unsay(records)
    _remove_claimed(records)
    for name in records.names():
        if not name.startswith((LOCK, ".")):
            records.remove(name)
    if isinstance(records, FolderRecords):
        for entry in records.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)


def clear(records: Records) -> None:
    """Nothing of a job is left."""
    _unsay(records)
    _remove_claimed(records)
    records.clear()


def _unsay(records: Records) -> None:
    """Removes what says that blocks are done. It goes before they do: whoever is ended there leaves no hole behind."""
    for prefix in (JOURNAL, BEGUN):
        for name in records.names(prefix):
            records.remove(name)


def _remove_claimed(records: Records) -> None:
    """Removes unfinished outputs that grew in their places, in an object store."""
    for name in records.names(CLAIMED):
        root = Path((records.read(name) or b"").decode())
        if is_url(root) and not is_complete(root):
            Place(root).remove_all()


def inode(path: Path) -> bytes | None:
    """What a folder keeps when it is renamed."""
    try:
        found = path.stat()
    except OSError:
        return None
    return f"{found.st_dev} {found.st_ino}".encode()
