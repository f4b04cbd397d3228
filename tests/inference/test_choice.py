from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from geomedsr.errors import GeomedsrError
from geomedsr.image import Image, Voxels
from geomedsr.inference import choice
from geomedsr.inference.backend import TorchBackend
from geomedsr.inference.choice import LEAST_PSNR, Choice, check_asked, choose
from geomedsr.inference.footprint import Footprint
from geomedsr.inference.upscaler import Upscaler
from geomedsr.networks import fsrcnn
from geomedsr.task import Task

NETWORK = fsrcnn.build(Task(2, 1, (2, 2)), width=8, narrow=4, layers=1)
LONG = 10**12


class Fake:
    """A backend that is as fast and as far from float32 as it is told to be; time is what it says."""

    device = "cpu"
    relay = None
    tell = None
    clock = 0.0

    def __init__(self, name: str, precision: str, speed: float, noise: float) -> None:
        self.name, self.precision = name, precision
        self._speed, self._noise = speed, noise

    @property
    def footprint(self) -> Footprint:
        return Footprint(1.0, 0.0)

    def available(self) -> int:
        return 1 << 30

    def run(self, batch: Voxels) -> Voxels:
        Fake.clock += batch.size / self._speed
        wave = np.resize(np.array([1, -1], np.float32), batch.shape)
        return np.asarray(batch + self._noise * wave, np.float32)


def chosen(
    monkeypatch: pytest.MonkeyPatch, backends: list[Fake], backend: str, precision: str, voxels: int = LONG
) -> Choice:
    exact = Fake("torch", "float32", 1e4, 0.0)
    table = {(one.name, one.precision): one for one in backends}
    monkeypatch.setattr(choice, "_make", lambda _network, _exact, *key: table.get(key, exact))
    monkeypatch.setattr(choice, "is_installed", lambda: any(one.name == "openvino" for one in backends))
    monkeypatch.setattr(choice.time, "perf_counter", lambda: Fake.clock)
    piece = np.random.default_rng(0).random((4, 1, 64, 64), np.float32)
    return choose(NETWORK, exact, backend, precision, voxels, lambda: piece)[1]  # type: ignore[arg-type]


FAST = Fake("torch", "bf16", 3e4, 1e-4)  # 80 dB
FASTER = Fake("openvino", "bf16", 8e4, 2e-4)  # 74 dB
EXACT = Fake("openvino", "float32", 2e4, 1e-7)
COARSE = Fake("openvino", "bf16", 9e4, 2e-3)  # 54 dB


def test_auto_takes_the_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    found = chosen(monkeypatch, [FAST, FASTER, EXACT], "auto", "auto")
    assert (found.backend, found.precision) == ("openvino", "bf16")
    assert found.speedup == pytest.approx(8.0)
    assert found.psnr == pytest.approx(20 * math.log10(1 / 2e-4), abs=0.1)
    assert "bf16 with openvino: 8.0 times as fast as torch's float32" in str(found)


def test_auto_never_takes_what_is_further_than_60_db(monkeypatch: pytest.MonkeyPatch) -> None:
    found = chosen(monkeypatch, [FAST, COARSE, EXACT], "auto", "auto")
    assert (found.backend, found.precision) == ("torch", "bf16")
    found = chosen(monkeypatch, [COARSE, EXACT], "openvino", "auto")
    assert (found.backend, found.precision) == ("openvino", "float32")
    assert found.psnr is not None
    assert found.psnr > LEAST_PSNR


def test_what_is_asked_for_is_taken_however_far_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = chosen(monkeypatch, [FAST, COARSE], "auto", "bf16")
    assert (found.backend, found.precision) == ("openvino", "bf16")
    assert found.psnr is not None
    assert found.psnr < LEAST_PSNR


@pytest.mark.parametrize("noise", [math.nan, math.inf])
def test_what_overflows_is_never_chosen_by_itself(monkeypatch: pytest.MonkeyPatch, noise: float) -> None:
    wild = [Fake("torch", "bf16", 9e4, noise), Fake("openvino", "bf16", 8e4, noise), EXACT]
    found = chosen(monkeypatch, wild, "auto", "auto")
    assert (found.backend, found.precision) == ("openvino", "float32")
    asked = chosen(monkeypatch, wild, "auto", "bf16")  # who asks for bf16 gets it, and is told
    assert (asked.backend, asked.precision, asked.psnr) == ("torch", "bf16", -math.inf)
    assert str(asked).endswith("but not all of its values are finite")


def test_a_short_job_is_done_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    found = chosen(monkeypatch, [FAST, FASTER, EXACT], "auto", "auto", voxels=30_000)
    assert found == Choice("torch", "float32")


def test_openvino_is_not_converted_for_a_job_that_is_soon_done(monkeypatch: pytest.MonkeyPatch) -> None:
    found = chosen(monkeypatch, [FAST, FASTER, EXACT], "auto", "auto", voxels=100_000)
    assert (found.backend, found.precision) == ("torch", "bf16")


def test_float32_without_a_backend_is_torchs_and_measures_nothing() -> None:
    exact = TorchBackend(NETWORK)
    for backend in ("auto", "torch"):
        made, found = choose(NETWORK, exact, backend, "float32", LONG, lambda: pytest.fail("measured"))
        assert made is exact
        assert found == Choice("torch", "float32")
    made, found = choose(NETWORK, exact, "torch", "bf16", LONG, lambda: pytest.fail("measured"))
    assert (made.name, made.precision, found.psnr) == ("torch", "bf16", None)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("tensorrt", "auto", "cpu"), "backend 'tensorrt' is not known; known are auto, torch, openvino"),
        (("auto", "int8", "cpu"), "precision 'int8' is not known; known are auto, float32, bf16"),
        (("openvino", "auto", "meta"), "The device meta"),
    ],
)
def test_what_cannot_be_is_refused(asked: tuple[str, str, str], message: str) -> None:
    with pytest.raises(GeomedsrError, match=message):
        check_asked(*asked)


def test_openvino_is_refused_before_the_work_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "is_installed", lambda: False)
    with pytest.raises(GeomedsrError, match="OpenVINO is not installed here; install"):
        check_asked("openvino", "float32", "cpu")


def test_a_backend_that_refuses_a_network_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(Fake):
        def run(self, batch: Voxels) -> Voxels:
            raise GeomedsrError("OpenVINO cannot convert this network.")

    found = chosen(monkeypatch, [FAST, Refusing("openvino", "bf16", 8e4, 2e-4)], "auto", "auto")
    assert (found.backend, found.precision) == ("torch", "bf16")
    assert found.refused == "OpenVINO cannot convert this network."
    told: list[str] = []
    upscaler = Upscaler(NETWORK, None, precision="auto", tell=told.append)
    monkeypatch.undo()
    monkeypatch.setattr("geomedsr.inference.upscaler.choose", lambda _network, exact, *_: (exact, found))
    source = Image.of(np.zeros((1, 16, 16), np.float32))
    upscaler.run(source, Image.empty(source.spec.upscaled((2, 2))))
    assert told == ["Runs without what could have been faster: OpenVINO cannot convert this network."]


def test_a_piece_is_the_middle_and_keeps_what_the_network_strides_by() -> None:
    batch = np.arange(6 * 96 * 120, dtype=np.float32).reshape(6, 1, 96, 120)
    assert choice._middle(batch, 10**9, 1) is not None
    assert choice._middle(batch, 30_000, 1).shape == (2, 1, 96, 120)
    small = choice._middle(batch, 4096, 24)
    assert small.shape[0] == 1
    assert all(n % 24 == 0 for n in small.shape[2:])


def test_a_real_job_says_what_it_ran_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(choice, "_SHORTEST", 0.0)
    source = Image.of(np.random.default_rng(0).random((1, 80, 90), np.float32))
    told: list[str] = []
    for precision in ("float32", "auto", "bf16"):
        sink = Image.empty(source.spec.upscaled((2, 2)))
        outcome = Upscaler(NETWORK, None, backend="torch", precision=precision, tell=told.append).run(source, sink)
        assert outcome.choice.backend == "torch"
        assert precision in ("auto", outcome.precision)
    assert len(told) <= 1
    assert outcome.precision == "bf16"
