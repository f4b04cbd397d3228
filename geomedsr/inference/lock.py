"""A lock that says who holds it: two runs never write at one output, and what a dead one left is taken over.

The lock is a record beside the output, so it holds between machines that share a store. Whoever holds it asks before
each block whether it is still his: a run whose lock was taken away by force stops there.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import psutil

from geomedsr.errors import LockedError
from geomedsr.io._records import Records

__all__ = ["Lock", "Owner"]

_TRIES = 100
_CLOSE = 1.0
_LONG = 30.0
"""Seconds of waiting after which it is told."""
"""Seconds by which two readings of one process's start may differ."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A process somewhere. `space` tells machines apart that have one name: boots, and containers."""

    token: str
    host: str
    space: str
    pid: int
    started: float
    since: float

    @classmethod
    def here(cls) -> Owner:
        """The process that asks, with a token of its own."""
        started = psutil.Process().create_time()
        return cls(secrets.token_hex(8), socket.gethostname(), _space(), os.getpid(), started, time.time())

    @classmethod
    def read(cls, data: bytes) -> Owner | None:
        """The owner in a lock's record, or None where that says nothing."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):
            return None

    @property
    def is_gone(self) -> bool:
        """Whether the process is known to have ended: it ran here, and is not here any more."""
        if self.host != socket.gethostname() or self.space != _space():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) > _CLOSE
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, which began {_age(time.time() - self.since)} ago"


class Lock:
    """One lock by its name, held from `take` to `drop`."""

    def __init__(self, records: Records, name: str) -> None:
        self.records, self.name = records, name
        self.owner = Owner.here()
        self._data = json.dumps(asdict(self.owner)).encode()

    def take(self, what: str, *, force: bool = False) -> None:
        """Holds it from now on; what a process left that has ended is taken over. `what` is locked, for the message.

        Raises:
            LockedError: somebody else holds it.
        """
        if (holder := self.try_take(force=force)) is not None:
            raise LockedError(
                f"{what} is being written by {holder}. Wait for it, or end it; if it is gone for good, pass "
                "--force-unlock."
            )

    def try_take(self, *, force: bool = False) -> Owner | None:
        """None where it is held from now on, else who holds it."""
        for _ in range(_TRIES):
            if self.records.create(self.name, self._data):
                return None
            found = self.records.read(self.name)
            if found is None:
                continue  # dropped just now
            holder = Owner.read(found)
            if holder is not None and not holder.is_gone and not force:
                return holder
            self.records.remove(self.name, found)
        raise LockedError(
            f"The lock {self.name} in {self.records} comes and goes; other runs are at it: wait for them."
        )

    def wait(self, tell: Callable[[str], None], pause: float = 0.05) -> None:
        """Holds it from now on, after whoever held it before; `tell` hears of one that takes long."""
        since, is_told = time.monotonic(), False
        while (holder := self.try_take()) is not None:
            if not is_told and time.monotonic() - since >= _LONG:
                tell(f"Waiting for {holder}; if it is gone for good, end this run and pass --force-unlock.")
                is_told = True
            time.sleep(pause)

    @property
    def is_held(self) -> bool:
        """Whether it is still ours."""
        return self.records.read(self.name) == self._data

    def drop(self) -> None:
        """It is free, if it was ours."""
        self.records.remove(self.name, self._data)


@cache
def _space() -> str:
    parts = []
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            parts.append(os.readlink(path) if path.endswith("pid") else Path(path).read_text().strip())
        except OSError:
            parts.append("")
    return " ".join(parts)


def _age(seconds: float) -> str:
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
