"""A target is its old self or complete, and a dead run's leftovers go while a living run's stay."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import pytest

from geomedsr.errors import OutputError, WriteFailedError
from geomedsr.io import _staging
from geomedsr.io._staging import Staging, take_place, write_errors

OLD, NEW = "the old one", "the new one"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "out.nii.gz"
    path.write_text(OLD)
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "out.zarr"
    (path / "c").mkdir(parents=True)
    (path / "c" / "0").write_text(OLD)
    return path


def beside(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def staged_store(target: Path) -> Staging:
    staging = Staging(target, as_folder=True)
    (staging.path / "c").mkdir(parents=True)
    (staging.path / "c" / "0").write_text(NEW)
    return staging


def test_publish_makes_a_file_appear(tmp_path: Path) -> None:
    target = tmp_path / "out.tif"
    staging = Staging(target)
    staging.path.write_text(NEW)
    assert not target.exists()
    staging.publish()
    assert target.read_text() == NEW
    assert beside(target) == []


def test_publish_replaces_and_discard_does_not(target: Path) -> None:
    staging = Staging(target)
    staging.path.write_text("half of the new one")
    staging.discard()
    staging.discard()
    assert target.read_text() == OLD
    assert beside(target) == []
    staging = Staging(target)
    staging.path.write_text(NEW)
    staging.publish()
    staging.discard()
    assert target.read_text() == NEW
    assert beside(target) == []


def test_a_staging_that_nobody_holds_is_discarded(target: Path) -> None:
    staging = Staging(target)
    staging.path.write_text(NEW)
    del staging
    gc.collect()
    assert target.read_text() == OLD
    assert beside(target) == []


def test_companions_move_too(tmp_path: Path) -> None:
    target = tmp_path / "out.hdr"
    companion = tmp_path / "out.img"
    companion.write_text(OLD)
    staging = Staging(target)
    staging.path.write_text(NEW)
    (staging.folder / "out.img").write_text(NEW)
    (staging.folder / "scratch").write_text("not part of the output")
    staging.publish(staging.folder / "out.img")
    assert (target.read_text(), companion.read_text()) == (NEW, NEW)
    assert beside(target) == ["out.img"]


def test_companions_return_when_the_last_move_fails(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    companion = target.with_name("out.img")
    companion.write_text(OLD)
    staging = Staging(target)
    staging.path.write_text(NEW)
    (staging.folder / "out.img").write_text(NEW)
    put = _staging._put_in_place

    def refused(staged: Path, onto: Path, aside: Path) -> object:
        if onto == target:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return put(staged, onto, aside)

    monkeypatch.setattr(_staging, "_put_in_place", refused)
    with pytest.raises(WriteFailedError, match="Input/output error"):
        staging.publish(staging.folder / "out.img")
    staging.discard()
    assert (target.read_text(), companion.read_text()) == (OLD, OLD)
    assert beside(target) == ["out.img"]


@pytest.fixture(params=["exchange", "set aside"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to replace a folder: in one step, and where the system cannot."""
    if request.param == "set aside":
        monkeypatch.setattr(_staging, "_exchanged", lambda first, second: False)


@pytest.mark.usefixtures("either_way")
def test_a_folder_is_replaced_whole(store: Path) -> None:
    (store / "only in the old one").write_text(OLD)
    staged_store(store).publish()
    assert [str(path.relative_to(store)) for path in sorted(store.rglob("*"))] == ["c", "c/0"]
    assert (store / "c" / "0").read_text() == NEW
    assert beside(store) == []


def test_a_folder_returns_when_the_new_one_cannot_come(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_staging, "_exchanged", lambda first, second: False)
    staging = staged_store(store)
    rename = os.rename

    def refused(source: Path, onto: Path) -> None:
        if source == staging.path:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(source, onto)

    monkeypatch.setattr(os, "rename", refused)
    with pytest.raises(WriteFailedError, match="The disk is full"):
        staging.publish()
    staging.discard()
    assert (store / "c" / "0").read_text() == OLD


def test_an_exchanged_folder_is_never_missing(store: Path) -> None:
    probe = [store.parent / "a", store.parent / "b"]
    for path in probe:
        path.mkdir()
    if not _staging._exchanged(*probe):
        pytest.skip("this file system cannot exchange two names in one step")
    missing, done = [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            if not os.path.exists(store / "c" / "0"):
                missing.append(True)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(30):
        staged_store(store).publish()
    done.set()
    watcher.join()
    assert not missing


def test_a_folder_set_aside_by_a_killed_run_comes_back(store: Path) -> None:
    leftover = store.parent / ".geomedsr-out.zarr"
    leftover.mkdir()
    store.rename(leftover / ".replaced")
    staging = Staging(store, as_folder=True)
    assert (store / "c" / "0").read_text() == OLD
    staging.discard()
    assert beside(store) == []


def other_process(code: str, *arguments: object) -> subprocess.Popen[str]:
    script = f"import os, resource, signal, sys\nfrom pathlib import Path\nfrom geomedsr.io._staging import *\n{code}"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


HOLD = """
staging = Staging(Path(sys.argv[1]))
staging.path.write_text("half of the new one")
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_killed_run_leaves_the_old_output_and_the_next_run_sweeps(target: Path) -> None:
    with other_process(HOLD, target) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        with pytest.raises(OutputError, match="is being written by another run"):
            Staging(target)
        run.send_signal(signal.SIGKILL)
    assert target.read_text() == OLD
    assert beside(target) == [".geomedsr-out.nii.gz"]
    staging = Staging(target)
    assert not staging.path.exists()
    staging.path.write_text(NEW)
    staging.publish()
    assert target.read_text() == NEW
    assert beside(target) == []


def test_the_end_of_the_program_discards(target: Path) -> None:
    with other_process(HOLD, target) as run:
        run.communicate("")
    assert target.read_text() == OLD
    assert beside(target) == []


def test_two_stagings_of_one_target_exclude_each_other(target: Path) -> None:
    first = Staging(target)
    with pytest.raises(OutputError, match="another run"):
        Staging(target)
    other = Staging(target.with_name("other.nii.gz"))
    other.discard()
    first.discard()
    Staging(target).discard()


FORK = """
staging = Staging(Path(sys.argv[1]))
staging.path.write_text("the new one")
child = os.fork()
if child == 0:
    sys.exit(0)
os.waitpid(child, 0)
staging.publish()
"""


def test_a_forked_child_does_not_discard_its_parents_work(target: Path) -> None:
    with other_process(FORK, target) as run:
        run.communicate("")
    assert run.returncode == 0
    assert target.read_text() == NEW


FULL = """
staging = Staging(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    with write_errors(staging.target):
        staging.path.write_bytes(bytes(1 << 20))
except Exception as error:
    print(type(error).__name__, error.exit_code, error)
"""


def test_a_device_that_refuses_is_one_sentence(target: Path) -> None:
    with other_process(FULL, target) as run:
        said, _ = run.communicate("")
    assert said == f"WriteFailedError 1 {target} could not be written: File too large.\n"
    assert target.read_text() == OLD
    assert beside(target) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_while_flushing_changes_nothing(target: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    staging = Staging(target)
    staging.path.write_text(NEW)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteFailedError, match=r"The disk is full: .* nothing was changed"):
        staging.publish()
    staging.discard()
    assert target.read_text() == OLD
    assert beside(target) == []


def test_all_of_a_store_is_flushed_before_it_takes_its_place(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in range(40):
        (store / "c" / f"1{name}").write_text(NEW)
    everything, flushed = {store, *store.rglob("*")}, list[Path]()
    monkeypatch.setattr(_staging, "_PORTION", 8)
    monkeypatch.setattr(_staging, "_flush_names", flushed.append)
    take_place(store, store.with_name("there.zarr"), store.with_name("aside"))
    assert set(flushed[:-1]) == everything
    assert len(flushed) == len(everything) + 1


def test_flushing_takes_no_more_memory_for_more_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_staging, "_PORTION", 16)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    peaks = []
    for index, count in enumerate((100, 100, 2000)):
        folder = tmp_path / f"{index}"
        folder.mkdir()
        for name in range(count):
            (folder / f"{name}").touch()
        tracemalloc.start()
        take_place(folder, tmp_path / f"there {index}", tmp_path / "aside")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 200_000


def test_write_errors_lets_other_errors_pass(target: Path) -> None:
    with pytest.raises(KeyError), write_errors(target):
        raise KeyError("a mistake of the program")


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist; make it first"):
        Staging(tmp_path / "missing" / "out.tif")


def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("the superuser may write into a read-only folder")
        with pytest.raises(OutputError, match="it is read-only"):
            Staging(tmp_path / "out.tif")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("code", "kind", "sentence"),
    [(errno.EROFS, OutputError, "it is read-only"), (errno.ENOSPC, WriteFailedError, "The disk is full")],
)
def test_a_folder_that_cannot_be_made_is_one_sentence(
    target: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[Exception], sentence: str
) -> None:
    def refused(*_arguments: object, **_more: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(kind, match=sentence):
        Staging(target)


def test_a_file_and_a_folder_never_replace_each_other(target: Path, store: Path) -> None:
    with pytest.raises(OutputError, match="is a folder, and the output would be a file"):
        Staging(store)
    with pytest.raises(OutputError, match="is a file, and the output would be a folder"):
        Staging(target, as_folder=True)


def test_a_link_in_the_way_is_not_followed(target: Path, store: Path) -> None:
    (target.parent / ".geomedsr-out.nii.gz").symlink_to(store)
    with pytest.raises(OutputError, match="is in the way"):
        Staging(target)
    assert (store / "c" / "0").read_text() == OLD


def test_a_file_system_without_locks_still_works(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_arguments: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", unsupported)
    first, second = Staging(target), Staging(target)
    assert first.folder != second.folder
    for staging in (first, second):
        staging.path.write_text(NEW)
        staging.publish()
    assert target.read_text() == NEW
    assert beside(target) == []


def test_a_long_name_has_a_short_folder(tmp_path: Path) -> None:
    target = tmp_path / ("ä" * 125 + ".tif")
    staging = Staging(target)
    staging.path.write_text(NEW)
    staging.publish()
    assert target.read_text() == NEW
    assert beside(target) == []
