"""How much a file may ask for before it is refused, and what it may reach: budgets that whoever runs it can raise.

A few bytes can claim any number of voxels, and unpack into a thousand times as many. So what a file claims is held
against these numbers first, while nothing has been allocated and nothing unpacked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from geomedsr.errors import InputError

__all__ = ["Limits", "boundless", "limits", "size", "within"]

_RATIO = 100
"""Times its own size that a packed file may always unpack to: what images of real things stay far below."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The budgets for one input, and what it may reach.

    `voxels` counts all channels, of an input as of an output. `unpacked` is how many bytes a packed file may give;
    those that give no more than 100 times their own size are always let in. `block` is how many bytes a file may ask
    for at once, `channels` how many it may have, and `text` how many bytes it may spend on words about itself.
    `remote` and `outside` let a file name others: at a URL, and outside of its own folder.

    Example:
        >>> Limits().check_unpacked("scan.nii.gz", packed=2_000_000, unpacked=3_000_000_000)
        >>> Limits(unpacked=2**30).check_unpacked("scan.nii.gz", packed=2_000_000, unpacked=3_000_000_000)
        Traceback (most recent call last):
        geomedsr.errors.InputError: scan.nii.gz has 2.0 MB and claims to unpack to 3.0 GB, 1500 times as much; \
where that is true and wanted, pass --max-unpacked 3GB.
    """

    voxels: int = 10**12
    unpacked: int = 4 << 30
    block: int = 1 << 30
    channels: int = 10_000
    text: int = 32 << 20
    remote: bool = False
    outside: bool = False

    def check_voxels(self, name: object, voxels: int) -> None:
        """Refuses more voxels than there may be.

        Raises:
            InputError: with both numbers.
        """
        if voxels > self.voxels:
            raise InputError(
                f"{name} has {voxels:.3g} voxels in all channels, more than the {self.voxels:.3g} allowed; where that "
                f"is true and wanted, pass --max-voxels {voxels}."
            )

    def check_channels(self, name: object, channels: int) -> None:
        """Refuses more channels than there may be.

        Raises:
            InputError: with both numbers.
        """
        if channels > self.channels:
            raise InputError(
                f"{name} has {channels} channels, more than the {self.channels} allowed; where that is true and "
                f"wanted, pass --max-channels {channels}."
            )

    def check_unpacked(self, name: object, *, packed: int, unpacked: int) -> None:
        """Refuses a small file that becomes a large one.

        Raises:
            InputError: with both sizes.
        """
        if unpacked > self.unpacked_from(packed):
            raise InputError(
                f"{name} has {size(packed)} and claims to unpack to {size(unpacked)}, {unpacked // max(packed, 1)} "
                f"times as much; where that is true and wanted, pass --max-unpacked {_enough(unpacked)}."
            )

    def unpacked_from(self, packed: int) -> int:
        """How many bytes may come out of so many."""
        return max(self.unpacked, _RATIO * packed)

    def check_text(self, name: object, nbytes: int) -> None:
        """Refuses a file that says more about itself than anybody reads.

        Raises:
            InputError: with both sizes.
        """
        if nbytes > self.text:
            raise InputError(
                f"{name} has {size(nbytes)} of words about itself, more than the {size(self.text)} allowed; where that "
                f"is true and wanted, pass --max-text {_enough(nbytes)}."
            )

    def check_block(self, name: object, nbytes: int) -> None:
        """Refuses a file that can only be read in pieces too large for memory.

        Raises:
            InputError: with both sizes.
        """
        if nbytes > self.block:
            raise InputError(
                f"{name} is stored in blocks of {size(nbytes)}, more than the {size(self.block)} that may be read at "
                f"once; rewrite it in tiles, or pass --max-block {_enough(nbytes)}."
            )


def size(nbytes: int) -> str:
    """Bytes as people read them.

    Example:
        >>> size(1234), size(5 * 10**9), size(2**62)
        ('1.2 kB', '5.0 GB', '4611686.0 TB')
    """
    unit, letter = next(((u, n) for u, n in ((10**12, "T"), (10**9, "G"), (10**6, "M")) if nbytes >= u), (10**3, "k"))
    return f"{nbytes / unit:.1f} {letter}B"


def _enough(nbytes: int) -> str:
    """An option's value that lets so many bytes through."""
    return f"{-(-nbytes // 10**9)}GB"


_held = [Limits()]
"""The last one holds. Threads that come and go beside each other each take away their own."""

_BOUNDLESS = 1 << 62


def limits() -> Limits:
    """What holds in this process."""
    return _held[-1]


@contextmanager
def within(chosen: Limits) -> Iterator[None]:
    """Lets other limits hold in this process, in all of its threads: they are the choice of whoever runs it."""
    mine = replace(chosen)
    _held.append(mine)
    try:
        yield
    finally:
        _held[:] = [one for one in _held if one is not mine]


@contextmanager
def boundless() -> Iterator[None]:
    """Lets this program read what it has just written itself, however large; what may be reached stays as it is."""
    held, most = limits(), _BOUNDLESS
    text = 2 * held.text  # it has the input's words, and some more
    with within(replace(held, voxels=most, unpacked=most, block=most, channels=most, text=text)):
        yield
