"""A cache of training images: each is unpacked once into a zarr of float32, which patches are read from quickly.

An image's place in the cache is the hash of its files, so an image that has changed is packed anew, two names for the
same bytes share one place, and a cache serves any number of recipes. The voxels are those that were in the file, bit
for bit, and nothing is compressed: a voxel takes four bytes on the disk, and a patch no time to unpack.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from geomedsr.errors import OutputError
from geomedsr.grid import Box, Shape
from geomedsr.image import ImageSpec, Source
from geomedsr.io import suffix_of
from geomedsr.run.packing import Packed

__all__ = ["cached"]

_VERSION = "2"
"""Changes when what is packed does, so that older caches are left alone."""

_CHUNK = 1 << 15
"""Voxels in a chunk, about: a patch touches few of them, and each is one short read."""


_REFERENCES = (".vrt",)
"""Files that hold no voxels but name others that do: their own hash says nothing, so they are read as they are."""


def cached(path: Path, cache: Path, opener: Callable[[Path], Source]) -> Source:
    """The image at `path`, read from the cache, where it is written first if it is new.

    Raises:
        OutputError: the cache cannot be written.
    """
    from geomedsr.io import zarr_archive

    source = opener(path)
    if path.suffix.lower() in _REFERENCES:
        return source
    if not cache.parent.is_dir():
        raise OutputError(f"The folder {cache.parent} does not exist; make it first, or choose another cache.")
    target = cache / f"{_fingerprint(path)}.zarr"
    if not target.exists():
        try:
            cache.mkdir(exist_ok=True)
            with _turn(target):
                if not target.exists():
                    _write(source, target)
        except OSError as error:
            raise OutputError(f"The cache {cache} cannot be written: {error.strerror or error}.") from error
    source.close()
    return Packed(source.spec, zarr_archive.open_source(target))


@contextmanager
def _turn(target: Path) -> Iterator[None]:
    """One process at a time: those that train together come to an image at the same moment."""
    path = target.with_name(f".{target.name}.turn")
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    path.unlink(missing_ok=True)


def _write(source: Source, target: Path) -> None:
    from geomedsr.io import zarr_archive

    spec = ImageSpec(source.spec.grid, source.spec.channels, np.dtype(np.float32), chunks=_chunks(source.spec))
    sink = zarr_archive.create_sink(target, spec, {"compressor": "none", "layout": "plain"})
    try:
        for box in Box.whole(spec.grid.shape).split(sink.spec.chunks or spec.grid.shape):
            sink.write(box, source.read(box))
        sink.commit()
    except BaseException:
        sink.abort()
        raise


def _chunks(spec: ImageSpec) -> Shape:
    shape = list(spec.grid.shape)
    while np.prod(shape) > _CHUNK and max(shape) > 1:
        longest = shape.index(max(shape))
        shape[longest] = (shape[longest] + 1) // 2
    return tuple(shape)


def _fingerprint(path: Path) -> str:
    """The hash of an image's files and their names' endings."""
    digest = hashlib.sha256(_VERSION.encode())
    for ending, file in _files(path):
        digest.update(ending.encode())
        with open(file, "rb") as handle:
            digest.update(hashlib.file_digest(handle, "sha256").digest())
    return digest.hexdigest()[:32]


def _files(path: Path) -> Iterator[tuple[str, Path]]:
    """All files below a folder; of a file, itself and those of its name with other endings (`.hdr` and `.img`)."""
    if path.is_dir():
        yield from sorted((str(file.relative_to(path)), file) for file in path.rglob("*") if file.is_file())
        return
    stem = path.name.removesuffix(suffix_of(path) or path.suffix)
    for file in sorted(path.parent.iterdir()):
        if file.is_file() and file.name.startswith(f"{stem}."):
            yield file.name[len(stem) :], file
