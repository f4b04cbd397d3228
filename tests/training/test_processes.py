"""A run that is killed, and a run in two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support import SMALL_RECIPE, subjects

from geomedsr.model import Model
from geomedsr.recipe import Recipe
from geomedsr.training.loop import Subjects, train

TESTS = Path(__file__).parents[1]
RUNNER = TESTS / "training" / "runner.py"
GAN = "[{name: l1}, {name: adversarial, weight: 0.01, critic: {name: unet_sn, width: 4}}]"
FAILED = "FailedError: The loss was not finite 10 times in a row"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent))), "OMP_NUM_THREADS": "1"}


def start(folder: Path, *changes: str, resume: bool = False, processes: int = 1) -> subprocess.Popen[bytes]:
    launch = [
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        str(processes),
        "--num_machines",
        "1",
    ]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1"]
    launch += ["--main_process_port", "0"]
    command = [sys.executable, *(launch if processes > 1 else []), str(RUNNER), str(folder)]
    command += ["resume" if resume else "new", "1", *changes]
    with open(said_by(folder), "ab") as handle:
        return subprocess.Popen(command, env=ENVIRONMENT, stderr=handle)


def said_by(folder: Path) -> Path:
    return folder.with_suffix(".txt")


def here(folder: Path, *changes: str) -> None:
    """The same training in this process, with as many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        chosen = Recipe.from_yaml(SMALL_RECIPE, "small", dict(change.split("=", 1) for change in changes))
        train(chosen, Subjects(*(subjects(chosen, range(i, i + 2)) for i in (0, 2, 4))), folder, quiet=True)
    finally:
        torch.set_num_threads(threads)


def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    changes = ("schedule.steps=40", "schedule.checkpoint_every=3", "schedule.validate_every=8", f"losses={GAN}")
    killed = start(tmp_path / "killed", *changes)
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    until = time.monotonic() + 300
    while not checkpoint.exists() and killed.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, said_by(tmp_path / "killed").read_text()
    assert checkpoint.exists()
    assert not (tmp_path / "killed" / "config.json").exists()
    resumed = start(tmp_path / "killed", *changes, resume=True)
    here(tmp_path / "straight", *changes)
    assert resumed.wait() == 0, said_by(tmp_path / "killed").read_text()
    found, wanted = (tmp_path / name / "model.safetensors" for name in ("killed", "straight"))
    assert found.read_bytes() == wanted.read_bytes()


def test_two_processes_train_as_one_with_twice_the_batch(tmp_path: Path) -> None:
    changes = ("degradation={name: kspace, noise: 0.01}", f"losses={GAN}")
    two = start(tmp_path / "two", *changes, "sampling.batch=2", processes=2)
    here(tmp_path / "one", *changes, "sampling.batch=4")
    assert two.wait() == 0, said_by(tmp_path / "two").read_text()
    found, wanted = (Model.load(tmp_path / name) for name in ("two", "one"))
    for name, weight in wanted.network.state_dict().items():
        torch.testing.assert_close(found.network.state_dict()[name], weight, atol=1e-4, rtol=0)
    assert found.scores["psnr"] == pytest.approx(wanted.scores["psnr"], abs=1e-3)
    assert (found.training["processes"], wanted.training["processes"]) == (2, 1)
    logs = [(tmp_path / name / "log.csv").read_text().splitlines() for name in ("two", "one")]
    assert len(logs[0]) == len(logs[1]), "one process writes"


def test_a_failure_ends_all_processes(tmp_path: Path) -> None:
    changes = ("optimizer.rate=1.0e+30", "optimizer.name=sgd", "schedule.steps=40", "schedule.warmup=0")
    run = start(tmp_path / "m", *changes, "optimizer.clip=1.0e+30", processes=2)
    assert run.wait(timeout=120) != 0
    assert said_by(tmp_path / "m").read_text().count(FAILED) >= 1
    assert not (tmp_path / "m" / "config.json").exists()
