"""A GPU as the relay's gear: streams, events, page-locked memory and CUDA graphs."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

import torch
from torch import Tensor

from geomedsr.inference.relay import Event

__all__ = ["CudaGear", "one_algorithm"]

_LANES = ("there", "compute", "back")


class CudaGear:
    """A GPU with a stream for each lane."""

    def __init__(self, device: str) -> None:
        index = torch.device(device).index
        self.device = torch.device("cuda", torch.cuda.current_device() if index is None else index)
        self._streams = {name: torch.cuda.Stream(self.device) for name in _LANES}  # type: ignore[no-untyped-call]

    def lane(self, name: str) -> AbstractContextManager[object]:
        """What is asked for within goes into a lane."""
        return torch.cuda.stream(self._streams[name])

    def locked(self, size: int) -> Tensor:
        """Page-locked host memory of so many bytes."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def mark(self) -> Event:
        """The point that the current lane has come to."""
        event = torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.device))
        return event

    def follow(self, event: Event) -> None:
        """Lets the current lane wait for a point in another."""
        assert isinstance(event, torch.cuda.Event)
        torch.cuda.current_stream(self.device).wait_event(event)

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """A CUDA graph of the work. Other threads may go on reading and writing meanwhile."""
        graph, compute = torch.cuda.CUDAGraph(), self._streams["compute"]
        with _uncollected(), torch.cuda.graph(graph, stream=compute, capture_error_mode="thread_local"):
            result = work()
        return graph.replay, result

    def seconds(self, first: Event, last: Event) -> float:
        """The time between two points that have been reached."""
        assert isinstance(first, torch.cuda.Event)
        assert isinstance(last, torch.cuda.Event)
        return float(first.elapsed_time(last)) / 1000

    def synchronize(self) -> None:
        """Waits until all lanes are done."""
        torch.cuda.synchronize(self.device)


@contextmanager
def _uncollected() -> Iterator[None]:
    """A stretch without garbage collection: what it frees may ask the device for what a recording forbids."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class _Flags:
    """cuDNN's settings, which are the process's: the first to need them sets them, the last puts back what was."""

    def __init__(self) -> None:
        self._lock, self._users, self._held = threading.Lock(), 0, ExitStack()

    def take(self) -> None:
        with self._lock:
            if not self._users:
                flags = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
                self._held.enter_context(flags)
            self._users += 1

    def give_back(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._held.close()


_FLAGS = _Flags()


@contextmanager
def one_algorithm() -> Iterator[None]:
    """A stretch in which cuDNN takes one algorithm for a shape, however often, and float32 is not rounded to TF32.

    TF32 keeps ten bits: who asks for float32 does not mean that.
    """
    _FLAGS.take()
    try:
        yield
    finally:
        _FLAGS.give_back()
