"""Work on a cluster of dask.distributed: a function over many items, a bounded number of them at a time.

The scheduler never sees a large graph: an item is handed over when a result comes back, so what it and this process
hold does not grow with the job. Each worker does one item after the other, with all threads that it was given.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from geomedsr.errors import ClusterError

__all__ = ["Cluster", "Greeting", "Outcome", "local_workers"]

T = TypeVar("T")
U = TypeVar("U")

AHEAD = 2
"""Items handed over for each worker: one under way, and one that waits for it."""

TIMEOUT = 15.0
"""Seconds that are waited for a scheduler's answer."""

PATIENCE = 60.0
"""Seconds that are waited for a scheduler's first worker."""

_PRELOADED = ["geomedsr.inference.upscaler", "geomedsr.model", "distributed"]
"""What all workers of this machine need: loaded once, and there at once when a worker is started anew."""

_LOOK = 1.0
"""Seconds after which the workers are counted anew: they come and go."""

_turn = threading.Lock()


def local_workers(where: str | None) -> int:
    """How many workers a cluster has on this machine; 0 where it is none, or lies elsewhere.

    Example:
        >>> local_workers("local:3"), local_workers("tcp://host:8786")
        (3, 0)
    """
    local = re.fullmatch(r"local(?::(\d+))?", where or "")
    return (int(local[1] or 0) or len(os.sched_getaffinity(0))) if local else 0


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a worker says of itself: its version, and where it would run a network."""

    version: str
    device: str


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T, U]):
    """An item with its result, or with what it failed by. `killed` says that it took its workers down with it."""

    item: T
    result: U | None
    error: Exception | None = None
    killed: bool = False


class Cluster:
    """A connection to `where`: `local`, `local:N` (N workers on this machine), or a scheduler's address.

    Raises:
        ClusterError: dask is not installed, or nobody answers at the address.
    """

    def __init__(self, where: str) -> None:
        self._where, self._threads = where, 0
        self._local: Any = None
        self._client: Any = None

    def __enter__(self) -> Self:
        try:
            import distributed
        except ImportError as error:
            raise ClusterError("--dask needs dask; run: pip install 'geomedsr[cluster]'.") from error
        _hush()
        if local := local_workers(self._where):
            self._start(distributed, local)
        elif "://" not in self._where:
            raise ClusterError(f"--dask is local, local:4 or a scheduler such as tcp://host:8786, not {self._where}.")
        try:
            self._client = distributed.Client(self._local or self._where, timeout=TIMEOUT, set_as_default=False)
            self._client.wait_for_workers(1, timeout=PATIENCE)
        except (OSError, TimeoutError, ValueError) as error:
            reached = self._client is not None
            self.__exit__()
            what = f"has no worker after {PATIENCE:.0f} s" if reached else "does not answer"
            raise ClusterError(f"The scheduler at {self._where} {what}; start it, or leave --dask out.") from error
        return self

    def _start(self, distributed: Any, workers: int) -> None:  # noqa: ANN401 - the module
        import dask

        self._threads = max(1, len(os.sched_getaffinity(0)) // workers)
        multiprocessing.set_forkserver_preload(_PRELOADED)
        # Which item killed its worker is found out by the caller, so the first time is told.
        choices = {"scheduler.allowed-failures": 0, "worker.multiprocessing-method": "forkserver"}
        with dask.config.set({f"distributed.{key}": value for key, value in choices.items()}):
            self._local = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,  # a tile is what bounds memory
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            )

    def __exit__(self, *_: object) -> None:
        for one in (self._client, self._local):
            with suppress(Exception):
                if one is not None:
                    one.close(timeout=10)

    @property
    def dashboard(self) -> str:
        """The address of the page that shows what the workers do."""
        return str(self._client.dashboard_link)

    @property
    def size(self) -> int:
        """How many workers there are."""
        return max(1, len(self._client.nthreads()))

    def check(self, greet: Callable[[], Greeting], expected: str) -> str:
        """The device that all workers would use.

        Raises:
            ClusterError: a worker lacks geomedsr, has another version of it, or another device than the others.
        """
        try:
            said: dict[str, Greeting] = self._client.run(greet)
        except Exception as error:
            raise ClusterError(
                f"The workers at {self._where} cannot run geomedsr ({type(error).__name__}: {error}); install "
                f"geomedsr {expected} on each."
            ) from error
        for address, greeting in said.items():
            if greeting.version != expected:
                raise ClusterError(
                    f"The worker {address} has geomedsr {greeting.version}, and this is {expected}; install the same "
                    "version on each."
                )
        devices = sorted({greeting.device for greeting in said.values()})
        if len(devices) > 1:
            raise ClusterError(f"The workers would compute on {' and '.join(devices)}, with other bits; pass --device.")
        return devices[0]

    def results(self, function: Callable[[T], U], more: Callable[[], T | None]) -> Iterator[Outcome[T, U]]:
        """The results of a function over items, as they come; `more` gives the next item when there is room for it.

        Raises:
            ClusterError: the scheduler is gone.
        """
        from distributed import as_completed

        coming = as_completed(loop=self._client.loop)
        waiting: dict[str, T] = {}
        room, looked = self.size * AHEAD, time.monotonic()
        try:
            while True:
                while len(waiting) < room and (item := more()) is not None:
                    future = self._client.submit(_in_turn, function, self._threads, item, pure=False)
                    waiting[future.key] = item
                    coming.add(future)
                if not waiting:
                    return
                future = next(coming)
                yield self._outcome(waiting.pop(future.key), future)
                del future  # what the scheduler holds for it may go
                if time.monotonic() - looked > _LOOK:
                    room, looked = self.size * AHEAD, time.monotonic()
        finally:
            coming.clear()

    def _outcome(self, item: T, future: Any) -> Outcome[T, U]:  # noqa: ANN401 - a future of dask's
        from distributed import KilledWorker

        if future.status == "finished":
            return Outcome(item, future.result())
        if future.status in ("cancelled", "lost"):
            raise ClusterError(f"The scheduler at {self._where} is gone. What is done stays done; start it again.")
        error = future.exception()
        return Outcome(item, None, error, killed=isinstance(error, KilledWorker))


def _in_turn(function: Callable[[T], U], threads: int, item: T) -> U:
    """The function on a worker: one item at a time, on the threads that are the worker's (`threads`, if not 0).

    A nanny starts its worker with OMP_NUM_THREADS=1, so the number is said here.
    """
    import torch
    from distributed import get_worker

    with _turn:
        wanted = threads or get_worker().state.nthreads
        if torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)
        return function(item)


def _hush() -> None:
    """What dask says of workers that come and go is told in our own words."""
    for name in ("distributed", "distributed.nanny", "distributed.scheduler", "distributed.core", "tornado"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
