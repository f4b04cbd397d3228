"""A job on a cluster: the same bytes, whoever is killed; what cannot be worked with is one sentence."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import job_support
import pytest
from job_support import LINEAR, STORED, archive, content, job_folder

from geomedsr import __version__
from geomedsr.cli import run_command
from geomedsr.errors import ClusterError
from geomedsr.inference import cluster
from geomedsr.inference.cluster import Cluster, Greeting
from geomedsr.run import distributed
from geomedsr.run.planning import Settings

dask = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("default")  # dask's own
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return archive(tmp_path_factory.mktemp("archive") / "in.zarr")


@pytest.fixture(scope="module")
def whole(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("whole") / "out.zarr"
    assert run_command(command(source, out)) == 0
    return content(out)


@pytest.fixture(scope="module")
def scheduler() -> Iterator[Any]:
    """A cluster of two workers, as somebody else has started it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent)]))
        with Cluster("local:2") as connected:
            yield connected._local


def command(source: Path, out: Path, *more: str) -> list[str]:
    return ["upscale", str(source), "-o", str(out), *LINEAR, *STORED, *more]


def test_two_workers_give_the_same_bytes(
    scheduler: Any, source: Path, whole: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    arguments = [word for word in command(source, out, "--dask", scheduler.scheduler_address) if word != "-q"]
    assert run_command(arguments) == 0
    assert "2 workers; what they do is shown at http://" in capsys.readouterr().err
    assert content(out) == whole
    assert not job_folder(out).exists()


def test_a_killed_worker_is_survived(
    scheduler: Any, source: Path, whole: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, killed = tmp_path / "out.zarr", []
    monkeypatch.setattr(distributed, "work_on", job_support.slow)
    take = distributed.Foreman.take

    def killing(self: Any, outcome: Any) -> None:
        take(self, outcome)
        process = next(iter(scheduler.workers.values())).process.process
        if len(killed) < 2 and process is not None and process.pid is not None:
            with suppress(ProcessLookupError):  # there is none while the next worker is started
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)

    monkeypatch.setattr(distributed.Foreman, "take", killing)
    assert run_command(command(source, out, "--dask", scheduler.scheduler_address)) == 0
    assert len(killed) == 2
    assert content(out) == whole


def test_a_block_that_kills_its_worker_is_set_aside(
    scheduler: Any, source: Path, whole: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "work_on", job_support.poisonous)
        assert run_command(command(source, out, "--dask", scheduler.scheduler_address)) == 4
    message = capsys.readouterr().err
    assert "1 of 20 blocks" in message
    assert "its worker was killed 2 times" in message
    assert run_command(command(source, out)) == 0
    assert content(out) == whole


def test_workers_of_another_version_are_refused(scheduler: Any, source: Path, tmp_path: Path) -> None:
    with Cluster(scheduler.scheduler_address) as connected:
        with pytest.raises(ClusterError, match=f"has geomedsr 0.0.9, and this is {__version__}"):
            connected.check(job_support.strange, __version__)
        assert connected.check(distributed.greet, __version__) == distributed.greet().device


def test_workers_on_different_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    connected = Cluster("tcp://nowhere:1")

    class Client:
        def run(self, _: object) -> dict[str, Greeting]:
            return {"a": Greeting("1", "cpu"), "b": Greeting("1", "cuda")}

    monkeypatch.setattr(connected, "_client", Client())
    with pytest.raises(ClusterError, match="cpu and cuda, with other bits"):
        connected.check(distributed.greet, "1")


@pytest.mark.parametrize(
    ("where", "sentence"),
    [("tcp://127.0.0.1:1", "does not answer"), ("somewhere", "--dask is local, local:4 or a scheduler")],
)
def test_a_scheduler_that_cannot_be_reached_is_one_sentence(
    where: str,
    sentence: str,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(cluster, "TIMEOUT", 0.5)
    assert run_command(command(source, tmp_path / "out.zarr", "--dask", where)) == 2
    message = capsys.readouterr().err
    assert sentence in message
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == []


def test_a_worker_of_another_version_does_no_work(source: Path) -> None:
    assignment = type("Assignment", (), {"version": "0.0.9"})()
    with pytest.raises(ClusterError, match="has geomedsr"):
        distributed.work_on(distributed.Batch(assignment, (0,)))


def test_a_worker_takes_the_first_gpu_that_it_sees() -> None:
    settings = Settings("linear", scale=(2,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geomedsr.inference.backend.find_device", lambda name: "cuda" if name == "auto" else name)
        assert distributed._own(settings).device == "cuda:0"
        assert distributed._own(replace(settings, device="cuda:0,cuda:1")).device == "cuda:0,cuda:1"
        patch.setattr("geomedsr.inference.backend.find_device", lambda name: "cpu")
        assert distributed._own(settings) == settings
