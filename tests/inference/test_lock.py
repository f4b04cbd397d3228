from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from geomedsr.errors import LockedError
from geomedsr.inference.lock import Lock, Owner
from geomedsr.io._records import FolderRecords


@pytest.fixture
def records(tmp_path: Path) -> FolderRecords:
    return FolderRecords(tmp_path / "job")


def test_one_holds_it_and_the_other_is_told_who(records: FolderRecords) -> None:
    first, second = Lock(records, "lock"), Lock(records, "lock")
    first.take("out")
    assert first.is_held
    with pytest.raises(LockedError, match=rf"out is being written by process {first.owner.pid} on"):
        second.take("out")
    first.drop()
    second.take("out")
    first.drop()
    assert second.is_held, "who does not hold it cannot drop it"


def test_force_takes_it_and_the_old_holder_knows(records: FolderRecords) -> None:
    first, second = Lock(records, "lock"), Lock(records, "lock")
    first.take("out")
    second.take("out", force=True)
    assert (first.is_held, second.is_held) == (False, True)


@pytest.mark.parametrize(
    ("changes", "is_gone"),
    [
        ({}, False),
        ({"pid": 2**22 + 7}, True),
        ({"started": 12.0}, True),
        ({"pid": 2**22 + 7, "host": "elsewhere"}, False),
        ({"pid": 2**22 + 7, "space": "another container"}, False),
    ],
)
def test_who_is_known_to_be_gone(changes: dict[str, object], is_gone: bool) -> None:
    owner = replace(Owner.here(), **changes)  # type: ignore[arg-type]
    assert Owner.read(json.dumps(asdict(owner)).encode()) == owner
    assert owner.is_gone == is_gone


def test_a_lock_that_says_nothing_is_taken_over(records: FolderRecords) -> None:
    records.write("lock", b"")
    lock = Lock(records, "lock")
    lock.take("out")
    assert lock.is_held


def test_who_waits_long_says_for_whom(records: FolderRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomedsr.inference.lock._LONG", 0.01)
    first, second, told = Lock(records, "lock"), Lock(records, "lock"), list[str]()
    first.take("out")
    threading.Timer(0.2, first.drop).start()
    second.wait(told.append, pause=0.02)
    assert second.is_held
    (line,) = told
    assert f"Waiting for process {first.owner.pid} on" in line


def test_of_many_one_gets_it(records: FolderRecords) -> None:
    records.write("lock", json.dumps(asdict(replace(Owner.here(), pid=2**22 + 7))).encode())
    locks = [Lock(records, "lock") for _ in range(8)]
    threads = [threading.Thread(target=lock.try_take) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(lock.is_held for lock in locks) == 1


def test_who_waits_gets_it_next(records: FolderRecords) -> None:
    first, second = Lock(records, "lock"), Lock(records, "lock")
    first.take("out")
    threading.Timer(0.1, first.drop).start()
    second.wait(pytest.fail)
    assert second.is_held


def test_ages_are_told_as_people_do() -> None:
    owner = Owner.here()
    for seconds, said in ((5, "5 s"), (300, "5 minutes"), (7200, "2 hours"), (200_000, "2 days")):
        assert f"which began {said} ago" in str(replace(owner, since=time.time() - seconds))
