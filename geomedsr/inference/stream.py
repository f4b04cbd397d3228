"""Reading ahead and writing behind: each in a thread of its own, with bounded lanes between the stages.

Three stages overlap, so a job takes as long as its slowest stage. An error in one stage stops the others at their
next item and is raised, as it is, where the compute stage runs.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

__all__ = ["DEPTH", "Ahead", "Behind"]

T = TypeVar("T")
U = TypeVar("U")

DEPTH = 2
"""Items that wait between two stages: enough to even out their pace, few enough to bound memory."""


class _StoppedError(Exception):
    """Nobody takes items from the lane any more."""


class _Lane(Generic[T]):
    """A bounded queue of items in order, which either end can close."""

    def __init__(self, depth: int = DEPTH) -> None:
        self._depth = depth
        self._items: deque[T] = deque()
        self._change = threading.Condition()
        self._ended = self._stopped = False
        self._error: BaseException | None = None

    def put(self, item: T) -> None:
        """Waits for room. Raises `_StoppedError` when the other end has stopped."""
        with self._change:
            self._change.wait_for(lambda: self._stopped or len(self._items) < self._depth)
            if self._stopped:
                raise _StoppedError
            self._items.append(item)
            self._change.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """No item will follow; `error` is raised at the other end after the last."""
        with self._change:
            self._ended, self._error = True, error
            self._change.notify_all()

    def stop(self) -> None:
        """No item will be taken any more; those that wait are dropped."""
        with self._change:
            self._stopped = True
            self._items.clear()
            self._change.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._items or self._ended or self._stopped)
                if not self._items:
                    if self._error is not None:
                        raise self._error
                    return
                item = self._items.popleft()
                self._change.notify_all()
            yield item
            del item  # a tile must not outlive its use while the next one is waited for


class Ahead(Generic[T, U]):
    """The results of a function over items, in order, computed in a thread before they are asked for.

    `waited` counts the seconds that the consumer had to wait.
    """

    def __init__(self, function: Callable[[T], U], items: Iterable[T]) -> None:
        self.waited = 0.0
        self._function, self._items = function, items
        self._lane: _Lane[U] = _Lane()
        self._thread = threading.Thread(target=self._work, name="geomedsr-reader", daemon=True)

    def _work(self) -> None:
        try:
            for item in self._items:
                self._lane.put(self._function(item))
        except _StoppedError:
            return
        except BaseException as error:  # noqa: BLE001  (raised again in the consumer's thread)
            self._lane.end(error)
        else:
            self._lane.end()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._lane.stop()
        _wait_for(self._thread, self._lane)

    def __iter__(self) -> Iterator[U]:
        results = iter(self._lane)
        while True:
            began = time.perf_counter()
            try:
                result = next(results)
            except StopIteration:
                return
            finally:
                self.waited += time.perf_counter() - began
            yield result
            del result


class Behind(Generic[T]):
    """A function applied to items in a thread of its own, in order.

    Leaving the context in peace waits until all is done and raises what went wrong; leaving it by an exception drops
    what still waits. `waited` counts the seconds that the producer had to wait, the last ones included.
    """

    def __init__(self, function: Callable[[T], None], depth: int = DEPTH) -> None:
        self.waited = 0.0
        self._function = function
        self._lane: _Lane[T] = _Lane(depth)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="geomedsr-writer", daemon=True)

    def _work(self) -> None:
        try:
            for item in self._lane:
                self._function(item)
                del item
        except BaseException as error:  # noqa: BLE001  (raised again in the producer's thread)
            self._error = error
            self._lane.stop()

    def put(self, item: T) -> None:
        """Hands an item over; raises what went wrong with an earlier one."""
        began = time.perf_counter()
        try:
            self._lane.put(item)
        except _StoppedError:
            self._raise()
        finally:
            self.waited += time.perf_counter() - began

    @property
    def failed(self) -> bool:
        """Whether the function raised: nothing more will be taken."""
        return self._error is not None

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        began = time.perf_counter()
        if kind is None:
            self._lane.end()
        else:
            self._lane.stop()
        try:
            _wait_for(self._thread, self._lane)
        finally:
            self.waited += time.perf_counter() - began
        if kind is None:
            self._raise()


def _wait_for(thread: threading.Thread, lane: _Lane[Any]) -> None:
    """Waits until a thread has ended, whatever is raised meanwhile (Ctrl-C, say), and raises that afterwards.

    What follows takes source and sink apart; a thread that was still inside a library's call would bring it down.
    """
    raised: BaseException | None = None
    while thread.is_alive():
        try:
            thread.join()
        except BaseException as error:  # noqa: BLE001  (raised again below)
            raised = raised or error
            lane.stop()
    if raised is not None:
        raise raised
