"""Where a job keeps its records, and what they say of who is at it and which outputs lie in their places."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from geomedsr.inference.journal import JOURNAL, Manifest
from geomedsr.inference.lock import Owner
from geomedsr.io import is_url, suffix_of
from geomedsr.io._records import FolderRecords, Records, RemoteRecords
from geomedsr.io._zarr_output import is_complete
from geomedsr.io._zarr_place import Place

__all__ = ["BEGUN", "CLAIMED", "LOCK", "PLACED", "clear", "forget", "holders", "inode", "placed", "records_beside"]

FOLDER, LOCK, BEGUN, PLACED, CLAIMED = ".geomedsr-job", "lock-", "begun-", "placed-", "claimed-"


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
