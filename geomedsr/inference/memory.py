"""How much memory is at hand, and a heap that does not give it back between two tiles."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

__all__ = [
    "FRUGAL",
    "HOLES",
    "available",
    "devices_of",
    "is_exhausted",
    "release",
    "share_heap",
    "spent_freely",
    "steady_heap",
]

FRUGAL = 640 << 20
"""Bytes for tiles that are spent without asking; more only where it saves redundant work."""

_SPACIOUS = 2 << 30
"""The same on a GPU, where larger windows keep all of it at work."""

_SHARE = 16
"""A GPU with more than so many times that at hand spends this part of it."""

HOLES = 2
"""How much a steady heap grows over what lives in it: measured 1.6 to 2.4 times for convolution networks in float32,
where tensors of many widths take turns."""

_SIGNS = ("can't allocate memory", "out of memory", "not enough memory", "bad_alloc", "Cannot allocate memory")

# mallopt's names, from <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def devices_of(name: str) -> list[str]:
    """The devices that a name means: several are divided by commas, and `cuda` is every GPU that torch sees.

    Example:
        >>> devices_of("cuda:0,cuda:1"), devices_of("cpu")
        (['cuda:0', 'cuda:1'], ['cpu'])
    """
    if name == "cuda":
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return name.split(",")


def available(device: str = "cpu") -> int:
    """Bytes that may still be taken on a device; the limits of the control groups and of the process count."""
    if device.startswith("cuda"):
        return min(int(torch.cuda.mem_get_info(one)[0]) for one in devices_of(device))
    import psutil

    return max(0, min([int(psutil.virtual_memory().available), *_cgroup_rooms(), *_address_room()]))


def _address_room() -> list[int]:
    """What `ulimit -v` leaves, which some job schedulers set."""
    import psutil

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return [] if limit == resource.RLIM_INFINITY else [limit - int(psutil.Process().memory_info().vms)]


def spent_freely(device: str, at_hand: int) -> int:
    """Bytes for tiles that are spent without asking, of those that are at hand on a device."""
    return max(_SPACIOUS, at_hand // _SHARE) if device.startswith("cuda") else FRUGAL


def _cgroup_rooms(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> list[int]:
    """What each control group above this process leaves: version 2 (one tree) and version 1 (a tree for memory)."""
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return []
    rooms: list[int] = []
    limits: tuple[str, ...]
    for _, controllers, path in lines:
        if controllers == "":
            limits, names, tree = ("memory.max", "memory.high"), ("memory.current", "inactive_file"), root
        elif "memory" in controllers.split(","):
            limits = ("memory.limit_in_bytes",)
            names = ("memory.usage_in_bytes", "total_inactive_file")
            tree = root / "memory"
        else:
            continue
        # In a container the path may be the host's, and the tree begins at the container's own group.
        group = tree / path.lstrip("/")
        rooms += [room for folder in (group, *group.parents) if folder.is_relative_to(tree) for limit in limits
                  if (room := _room(folder, limit, *names)) is not None]  # fmt: skip
    return rooms


def _room(folder: Path, limit: str, usage: str, cache: str) -> int | None:
    try:
        allowed = (folder / limit).read_text().strip()
        if allowed == "max":
            return None
        used = int((folder / usage).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        # Cached file pages count as used, but are given up at need.
        return int(allowed) - used + int(stat.get(cache, 0))
    except (OSError, ValueError):
        return None


def is_exhausted(error: BaseException) -> bool:
    """Whether an error says that memory ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def release(device: str) -> None:
    """Gives what was freed on a device back to it."""
    for one in devices_of(device):
        if one.startswith("cuda"):
            with torch.cuda.device(one):
                torch.cuda.empty_cache()
        elif (libc := _glibc()) is not None:
            libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, where its heap can be told what to keep."""
    try:
        libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    except OSError:
        return None
    return libc if libc is not None and hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None


def share_heap() -> None:
    """Lets the threads that are started from now on share one heap.

    By default glibc gives each a heap of its own, and what the threads that read, pack and write have freed is of no
    use to the network: with one heap a job's peak was 2145 instead of 2600 MiB, and no slower, as few blocks are asked
    for and large ones. It holds until the process ends. Elsewhere than on glibc nothing is changed.
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_ARENA_MAX, 1)


@contextmanager
def steady_heap() -> Iterator[None]:
    """Keeps freed blocks in the process while it lasts.

    By default glibc maps every block above 32 MiB anew and unmaps it when freed, so that each activation of a network
    is first zeroed page by page by the kernel: a plain convolution network on a 1024 x 1024 tile then takes 2.2
    times as long. Kept blocks cost some fragmentation, and are given back at the end. Elsewhere than on glibc
    nothing is changed.
    """
    if (libc := _glibc()) is None:
        yield
        return
    libc.mallopt(_M_MMAP_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        # The values that the adaptive default settles at once a process has freed large blocks.
        libc.mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(_M_TRIM_THRESHOLD, 64 << 20)
        libc.malloc_trim(0)
