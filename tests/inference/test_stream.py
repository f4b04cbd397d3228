from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from geomedsr.inference.stream import DEPTH, Ahead, Behind


def test_results_come_in_order() -> None:
    with Ahead(lambda n: n * n, range(20)) as ahead:
        assert list(ahead) == [n * n for n in range(20)]


def test_reading_runs_ahead_but_not_away() -> None:
    read: list[int] = []
    with Ahead(lambda n: read.append(n) or n, range(100)) as ahead:
        results = iter(ahead)
        next(results)
        time.sleep(0.1)
        # One is used, DEPTH wait, and one more is in the reader's hands.
        assert len(read) <= DEPTH + 2
    assert len(read) <= DEPTH + 2


def test_an_error_of_the_reader_follows_the_results_before_it() -> None:
    def read(n: int) -> int:
        return 10 // (2 - n)

    with Ahead(read, range(5)) as ahead:
        results = iter(ahead)
        assert [next(results), next(results)] == [5, 10]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_an_error_of_the_items_is_raised_too() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("gone")

    with Ahead(lambda n: n, items()) as ahead, pytest.raises(KeyError):
        list(ahead)


def test_all_is_written_when_the_context_ends() -> None:
    written: list[int] = []

    def write(n: int) -> None:
        time.sleep(0.01)
        written.append(n)

    with Behind(write) as behind:
        for n in range(8):
            behind.put(n)
    assert written == list(range(8))
    assert behind.waited > 0


def test_an_error_of_the_writer_reaches_the_producer() -> None:
    def write(n: int) -> None:
        raise OSError("full")

    def produce() -> None:
        with Behind(write) as behind:
            for n in range(100):
                behind.put(n)
                time.sleep(0.001)

    with pytest.raises(OSError, match="full"):
        produce()


def test_an_error_at_the_last_item_is_raised_too() -> None:
    def write(n: int) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"), Behind(write) as behind:
        behind.put(1)


def test_what_waits_is_dropped_when_the_producer_fails() -> None:
    written: list[int] = []
    gate = threading.Event()

    def write(n: int) -> None:
        gate.wait(5)
        written.append(n)

    def fail() -> None:
        with Behind(write) as behind:
            behind.put(1)
            time.sleep(0.05)
            behind.put(2)
            behind.put(3)
            threading.Timer(0.05, gate.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert written == [1]


def test_no_thread_is_left() -> None:
    with Ahead(lambda n: n, range(1000)) as ahead:
        next(iter(ahead))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("geomedsr")]


@pytest.mark.parametrize("times", [1, 3])
def test_an_interrupt_waits_for_the_writer_to_let_go(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Ctrl-C while the last tile is being written: whoever closes the file next must find nobody in it."""
    inside, release = threading.Event(), threading.Event()

    def write(item: int) -> None:
        inside.set()
        release.wait(10)

    join, left = threading.Thread.join, times

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        nonlocal left
        inside.wait(10)
        if left:
            left -= 1
            raise KeyboardInterrupt
        release.set()
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt), Behind(write) as behind:
        behind.put(1)
    assert release.is_set(), "the interrupt was raised while the writer was still at work"
    assert not any(thread.name == "geomedsr-writer" for thread in threading.enumerate())
