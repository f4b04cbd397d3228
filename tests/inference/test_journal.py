from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomedsr.errors import JobError, WriteFailedError
from geomedsr.inference.journal import (
    Bits,
    Entry,
    Journal,
    Manifest,
    Progress,
    checksum,
    read_manifest,
    read_progress,
    strike,
    write_manifest,
)
from geomedsr.io._records import FolderRecords

ENTRY = Entry("a.zarr", "out/a.zarr", "1 byte", (100, 60), (2, 2), (40, 30), (64, 32))
MANIFEST = Manifest("0.1.0", {"--scale": [2]}, (ENTRY, replace(ENTRY, source="b.tif", step=None, window=None)))


@pytest.fixture
def records(tmp_path: Path) -> FolderRecords:
    (tmp_path / "job").mkdir()
    return FolderRecords(tmp_path / "job")


def test_a_manifest_is_written_once_and_read_back(records: FolderRecords) -> None:
    assert read_manifest(records) is None
    assert write_manifest(records, MANIFEST)
    assert not write_manifest(records, replace(MANIFEST, version="2"))
    assert read_manifest(records) == MANIFEST


def test_tasks_are_numbered_through_all_images() -> None:
    assert MANIFEST.firsts == [0, 4, 5]
    assert MANIFEST.count == 5
    assert [MANIFEST.image_of(task) for task in range(5)] == [0, 0, 0, 0, 1]
    assert list(MANIFEST.tasks(0)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("now", "sentence"),
    [
        (replace(MANIFEST, version="0.2.0"), "had geomedsr 0.1.0, and this run has 0.2.0"),
        (replace(MANIFEST, choices={"--scale": [3]}), r"had --scale \[2\], and this run has \[3\]"),
        (replace(MANIFEST, choices={"--scale": [2], "--bands": "1"}), "had --bands nothing, and this run has 1"),
        (replace(MANIFEST, entries=MANIFEST.entries[:1]), "had the number of images 2, and this run has 1"),
        (replace(MANIFEST, entries=(replace(ENTRY, identity="x"), MANIFEST.entries[1])), "had the input a.zarr 1 byte"),
    ],
)
def test_what_differs_is_named(now: Manifest, sentence: str) -> None:
    with pytest.raises(JobError, match=sentence):
        MANIFEST.check_same(now, "job")
    # How the tasks are cut is the manifest's own affair: it follows from the memory of the machine that began.
    MANIFEST.check_same(replace(MANIFEST, entries=(replace(ENTRY, step=(128, 32)), MANIFEST.entries[1])), "job")


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"format": 99}', b'{"format": 1, "entries": [{}]}'])
def test_what_is_no_manifest_is_refused(data: bytes, records: FolderRecords) -> None:
    records.write("manifest.json", data)
    with pytest.raises(JobError, match="holds no job that can be taken up"):
        read_manifest(records)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 400), st.binary(max_size=9))
def test_a_journal_cut_anywhere_tells_whole_lines_only(cut: int, rest: bytes) -> None:
    lines = _journal_bytes()
    kept = lines[:cut]
    progress = _read(kept + rest.replace(b"\n", b""))
    assert progress.done.count == kept.count(b"\n")
    assert all(task in progress.done for task in range(progress.done.count))


def _journal_bytes() -> bytes:
    class Held(FolderRecords):
        data = b""

        def append(self, name: str, data: bytes) -> None:
            Held.data += data

        def mend(self, name: str) -> None:
            pass

    journal = Journal(Held(Path("nowhere")), "a")
    for task in range(8):
        journal.done(task, ["10:abcdef01", None])
    journal.flush()
    return Held.data


def _read(data: bytes) -> Progress:
    with TemporaryDirectory() as folder:
        (Path(folder) / "journal-a").write_bytes(data)
        return read_progress(FolderRecords(Path(folder)), 400)


def test_a_torn_line_is_cut_off_before_the_next_writer_goes_on(records: FolderRecords) -> None:
    for task in range(3):
        journal = Journal(records, "a")
        journal.done(task, [None])
        journal.flush()
        path = records.folder / "journal-a"
        with path.open("ab") as file:
            file.write(b"01234567 {" * (1000 * task + 1))
    journal = Journal(records, "a")
    journal.aside(7, "because")
    journal.flush()
    assert path.read_bytes().count(b"\n") == 4
    progress = read_progress(records, 8)
    assert (progress.done.count, progress.aside) == (3, {7: "because"})


def test_what_was_set_aside_and_done_later_is_done(records: FolderRecords) -> None:
    for writer, is_done in (("a", False), ("b", True), ("c", False)):
        journal = Journal(records, writer)
        _ = journal.done(1, [None]) if is_done else journal.aside(1, "because")
        journal.flush()
    progress = read_progress(records, 2)
    assert (progress.done.count, progress.aside, progress.twice) == (1, {}, 0)


def test_lines_wait_for_each_other_and_files_come_first(
    records: FolderRecords, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flushed: list[Path] = []
    monkeypatch.setattr("geomedsr.inference.journal.flush_all", flushed.extend)
    journal = Journal(records, "a")
    journal.done(0, [None], [tmp_path / "x"])
    assert (records.read("journal-a"), flushed) == (None, [])
    journal.flush()
    assert flushed == [tmp_path / "x"]
    assert read_progress(records, 1).done.count == 1


@given(st.sets(st.integers(0, 99)), st.integers(0, 100), st.integers(0, 100))
def test_bits_are_a_set(numbers: set[int], start: int, stop: int) -> None:
    bits = Bits(100)
    for number in (*numbers, *numbers):
        bits.add(number)
    assert bits.count == len(numbers)
    assert {number for number in range(100) if number in bits} == numbers
    start, stop = sorted((start, stop))
    assert bits.count_in(range(start, stop)) == len(numbers & set(range(start, stop)))


def test_a_checksum_tells_length_and_content() -> None:
    assert checksum(None) is None
    assert checksum(b"a") != checksum(b"b")
    assert checksum(b"") == "0:00000000"


def test_records_appear_whole(records: FolderRecords) -> None:
    assert records.read("a") is None
    assert records.create("a", b"one")
    assert not records.create("a", b"two")
    records.write("a", b"three")
    records.remove("a", b"one")
    assert records.read("a") == b"three"
    records.remove("a", b"three")
    assert records.names("a") == []
    assert [name for name in os.listdir(records.folder) if name != ".guard"] == []


def test_lines_are_json_behind_their_checksum(records: FolderRecords) -> None:
    journal = Journal(records, "a")
    journal.complete(3)
    (line,) = records.lines("journal-a")
    assert json.loads(line.split(b" ", 1)[1]) == {"complete": 3}


def test_what_is_struck_is_done_for_nobody_but_those_who_live(records: FolderRecords) -> None:
    for writer in ("1-of-2", "2-of-2"):
        journal = Journal(records, writer)
        for task in range(3):
            journal.done(task, [f"{writer}, {task}"])
        journal.aside(5, "because")
        journal.flush()
    strike(records, lambda task, sums: task != 1, spared={"2-of-2"})
    assert read_progress(records, 9).done.count == 3
    records.remove("journal-2-of-2")
    progress = read_progress(records, 9)
    assert [task for task in range(9) if task in progress.done] == [0, 2]
    assert progress.aside == {5: "because"}
    assert len(list(records.lines("journal-1-of-2"))) == 3


def test_what_the_disk_has_lost_is_never_told(records: FolderRecords, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = records.folder / "object"
    lost.write_bytes(b"voxels")

    def failing(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    journal = Journal(records, "a")
    journal.done(0, ["6:00000000"], [lost])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(WriteFailedError, match="object could not be written"):
            journal.flush()
    journal.flush()
    assert read_progress(records, 1).done.count == 0
