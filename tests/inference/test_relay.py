from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from geomedsr.data.intensity import Intensity
from geomedsr.errors import OutOfMemoryError, WriteFailedError
from geomedsr.grid import Box, Shape
from geomedsr.image import Image, Scaling, Voxels
from geomedsr.inference import upscaler as upscaler_module
from geomedsr.inference.backend import TorchBackend
from geomedsr.inference.relay import Fleet, Passage, Relay, passage_of
from geomedsr.inference.stream import DEPTH
from geomedsr.inference.upscaler import Outcome, Upscaler
from geomedsr.networks import interpolate
from geomedsr.networks._network import Network
from geomedsr.task import Task

PLANE = Task(2, 1, (2, 2))
UINT16 = np.dtype(np.uint16)


class Moment:
    """A point in a lane of the stand-in, where all is done as soon as it is asked for."""

    def __init__(self, lane: str) -> None:
        self.lane = lane
        self.is_awaited = False

    def synchronize(self) -> None:
        self.is_awaited = True


class Stand:
    """A stand-in for a GPU's gear, on the CPU: it notes what is asked for, and where."""

    device = torch.device("cpu")

    def __init__(self, records: bool = True) -> None:
        self.records = records
        self.log: list[str] = []
        self.locks = self.replays = self.settled = 0
        self._lane = ""

    @contextmanager
    def lane(self, name: str) -> Iterator[None]:
        before, self._lane = self._lane, name
        try:
            yield
        finally:
            self._lane = before

    def locked(self, size: int) -> Tensor:
        self.locks += 1
        return torch.empty(size, dtype=torch.uint8)

    def mark(self) -> Moment:
        self.log.append(f"{self._lane} marks")
        return Moment(self._lane)

    def follow(self, event: Any) -> None:
        self.log.append(f"{self._lane} follows {event.lane}")

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        if not self.records:
            raise RuntimeError("operation not permitted when stream is capturing")
        kept = work().clone()
        kept.zero_()  # recording does not do the work

        def replay() -> None:
            self.replays += 1
            kept.copy_(work())

        return replay, kept

    def seconds(self, first: Any, last: Any) -> float:
        assert (first.lane, last.lane) == ("compute", "compute")
        return 0.25

    def synchronize(self) -> None:
        self.settled += 1


def relay_of(stand: Stand, network: Network | None = None, **more: Any) -> Relay:
    network = network or interpolate.build(PLANE)
    return Relay(stand, network, torch.contiguous_format, (2, 2), **more)


def batch_of(shape: Shape = (2, 1, 6, 7), seed: int = 0) -> Voxels:
    return np.random.default_rng(seed).integers(0, 60000, shape).astype(np.float32)


def test_a_batch_goes_there_through_the_network_and_back_in_this_order() -> None:
    stand, batch = Stand(), batch_of()
    with relay_of(stand).start(batch) as found:
        assert np.array_equal(found, interpolate.build(PLANE)(torch.from_numpy(batch)).numpy())
    assert stand.log == [
        "compute marks",  # the buffers are free
        "there follows compute",
        "there marks",
        "compute follows there",
        "compute marks",
        "compute marks",
        "back follows compute",
        "back marks",
    ]


def test_a_result_is_waited_for_and_tells_how_long_the_network_took() -> None:
    pending = relay_of(Stand()).start(batch_of())
    assert pending.computed == 0
    with pending:
        assert pending.computed == 0.25


def test_slots_are_used_again_once_their_results_are_taken() -> None:
    stand = Stand()
    relay = relay_of(stand)
    for seed in range(5):
        with relay.start(batch_of(seed=seed)):
            pass
    assert stand.locks == 2  # one slot: there and back
    flying = [relay.start(batch_of(seed=seed)) for seed in range(3)]
    assert stand.locks == 6
    for seed, pending in enumerate(flying):
        with pending as found:
            assert np.array_equal(found, interpolate.build(PLANE)(torch.from_numpy(batch_of(seed=seed))).numpy())


def test_from_the_second_tile_of_a_shape_on_a_recording_is_replayed() -> None:
    stand = Stand()
    relay = relay_of(stand)
    for shape in ((1, 1, 6, 7),) * 4 + ((1, 1, 5, 5),) * 2:
        for seed in (0, 1):
            batch = batch_of(shape, seed)
            with relay.start(batch) as found:
                assert np.array_equal(found, interpolate.build(PLANE)(torch.from_numpy(batch)).numpy())
    assert stand.replays == 7 + 3
    assert stand.settled == 1  # before the buffers of the first shape go


def test_a_network_that_cannot_be_recorded_runs_anew_each_time_and_that_is_said_once() -> None:
    told: list[str] = []
    relay = relay_of(Stand(records=False), tell=told.append)
    for seed in range(4):
        with relay.start(batch_of(seed=seed)) as found:
            assert np.array_equal(found, interpolate.build(PLANE)(torch.from_numpy(batch_of(seed=seed))).numpy())
    assert len(told) == 1
    assert "could not be recorded: operation not permitted" in told[0]


@pytest.mark.parametrize("name", ["uint8", "int8", "uint16", "int16"])
def test_narrow_numbers_give_what_real_ones_give(name: str) -> None:
    dtype, intensity = np.dtype(name), Intensity(17.0, 333.0)
    ends = np.iinfo(dtype)
    batch = np.random.default_rng(0).integers(ends.min, ends.max, (1, 1, 9, 9), endpoint=True).astype(np.float32)
    network = interpolate.build(PLANE)  # cubic: it overshoots, so that both ends saturate
    real = intensity.invert(network(torch.from_numpy(intensity.apply(batch))).numpy())
    with relay_of(Stand()).start(batch, Passage(dtype, dtype, intensity)) as found:
        assert found.dtype == dtype
        assert np.array_equal(found, np.clip(np.rint(real), ends.min, ends.max).astype(dtype))
    with relay_of(Stand()).start(batch, Passage(intensity=intensity)) as found:
        assert np.array_equal(found, real)


def test_what_is_not_a_number_becomes_zero_in_whole_numbers() -> None:
    batch = np.full((1, 1, 4, 4), np.nan, np.float32)
    with relay_of(Stand()).start(batch, Passage(returned=UINT16)) as found:
        assert not found.any()


def test_only_plain_whole_numbers_travel_as_such() -> None:
    spec = replace(Image.of(np.zeros((1, 4, 4))).spec, dtype=np.dtype(">i2"))
    assert passage_of(spec, spec, Intensity()) == Passage(np.dtype("=i2"), np.dtype("=i2"))
    real = np.dtype(np.float32)
    for before, after, expected in (
        (replace(spec, scaling=(Scaling(0.1),)), spec, (real, np.dtype("=i2"))),
        (replace(spec, dtype=np.dtype(np.int32)), spec, (real, np.dtype("=i2"))),
        (spec, replace(spec, nodata=-1.0), (np.dtype("=i2"), real)),
        (spec, replace(spec, has_holes=True), (np.dtype("=i2"), real)),
    ):
        found = passage_of(before, after, Intensity())
        assert (found.sent, found.returned) == expected


def through_stands(
    monkeypatch: pytest.MonkeyPatch, source: Image, sink: Image, stands: list[Stand], network: Network, **more: Any
) -> Outcome:
    """The stream as it runs on GPUs, with stand-ins for them."""

    def backend(network: Network, *_: Any, **__: Any) -> TorchBackend:
        made = TorchBackend(network)
        forward = partial(made.forward, device="cpu")
        made.relay = Fleet([Relay(stand, forward, torch.contiguous_format, (2, 2)) for stand in stands])
        return made

    monkeypatch.setattr(upscaler_module, "TorchBackend", backend)
    return Upscaler(network, None, **more).run(source, sink)


def scene(dtype: str = "uint16", holes: bool = False) -> Image:
    voxels = np.random.default_rng(0).gamma(2, 50, (2, 60, 70)).astype(np.uint16).astype(np.float32)
    if holes:
        voxels[:, 10:20, 30:50] = np.nan
    plain = Image.of(voxels)
    return Image(replace(plain.spec, dtype=np.dtype(dtype), has_holes=holes), voxels)


def finer(source: Image) -> Image:
    return Image.empty(source.spec.upscaled((2, 2)))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("holes", [False, True])
def test_devices_share_a_job_and_give_what_the_host_gives(
    monkeypatch: pytest.MonkeyPatch, count: int, holes: bool
) -> None:
    source, network = scene("float32", holes), interpolate.build(PLANE)
    expected, found = finer(source), finer(source)
    Upscaler(network, None, tile=(13,)).run(source, expected)
    stands = [Stand() for _ in range(count)]
    outcome = through_stands(monkeypatch, source, found, stands, network, tile=(13,))
    assert np.array_equal(found.voxels, expected.voxels, equal_nan=True)
    assert all(stand.replays for stand in stands)
    assert all(stand.settled for stand in stands)
    assert sum(stand.locks for stand in stands) <= 2 * (DEPTH * count + 2)
    assert outcome.tiles > 8


class Slow(Image):
    """An image that is written long after it was given its voxels."""

    def write(self, box: Box, voxels: Voxels) -> None:
        time.sleep(0.01)
        super().write(box, voxels)


def test_a_result_is_written_before_its_place_is_given_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    source, network = scene("float32"), interpolate.build(PLANE)
    expected, slow = finer(source), finer(source)
    found = Slow(slow.spec, slow.voxels)
    Upscaler(network, None, tile=(13,)).run(source, expected)
    through_stands(monkeypatch, source, found, [Stand()], network, tile=(13,))
    assert np.array_equal(found.voxels, expected.voxels)


class Drawer(Image):
    """An image of whole numbers that takes them as they are."""

    stored = 0

    def store(self, box: Box, stored: Any) -> None:
        assert stored.dtype == self.spec.dtype
        self.stored += 1
        super().write(box, stored)


def test_whole_numbers_reach_the_sink_as_they_are_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    source, network = scene(), interpolate.build(PLANE)
    expected, plain = finer(source), finer(source)
    Upscaler(network, None, tile=(13,)).run(source, expected)
    rounded = np.clip(np.rint(expected.voxels), 0, 65535)
    drawer = Drawer(plain.spec, plain.voxels.copy())
    outcome = through_stands(monkeypatch, source, drawer, [Stand()], network, tile=(13,))
    assert drawer.stored == outcome.tiles
    assert np.array_equal(drawer.voxels, rounded)
    through_stands(monkeypatch, source, plain, [Stand()], network, tile=(13,))
    assert np.array_equal(plain.voxels, rounded)


class Lender(Image):
    """An image of whole numbers that shows them as they are stored: big-endian, and not to be written to."""

    loaded = 0

    def load(self, box: Box) -> Any:
        self.loaded += 1
        stored = self.voxels[(slice(None), *box.slices)].astype(">u2")
        stored.flags.writeable = False
        return stored


@pytest.mark.parametrize("holes", [False, True])
def test_whole_numbers_are_taken_as_they_are_stored(monkeypatch: pytest.MonkeyPatch, holes: bool) -> None:
    source, network = scene(), interpolate.build(PLANE)
    expected, found = finer(source), finer(source)
    Upscaler(network, None, tile=(13,)).run(source, expected)
    lender = Lender(replace(source.spec, has_holes=holes), source.voxels)
    outcome = through_stands(monkeypatch, lender, found, [Stand()], network, tile=(13,))
    assert lender.loaded == (0 if holes else outcome.tiles)  # what may be invalid is looked at first
    assert np.array_equal(found.voxels, np.clip(np.rint(expected.voxels), 0, 65535))


class Hungry(Network):
    """Runs out of a GPU's memory above so many voxels, or always at its nth pass."""

    multiple_of = 1
    reach = (0, 0)

    def __init__(self, limit: int) -> None:
        super().__init__(PLANE)
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() > self.limit and x.device.type != "meta":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_out_of_memory_on_a_device_goes_on_with_smaller_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    source, stands = scene(), [Stand(), Stand()]
    found = finer(source)
    outcome = through_stands(monkeypatch, source, found, stands, Hungry(400), tile=(40,))
    assert np.array_equal(found.voxels, source.voxels.repeat(2, 1).repeat(2, 2))
    assert np.prod(outcome.window) * 2 <= 400
    assert all(stand.settled >= 2 for stand in stands)


def test_out_of_memory_at_the_smallest_tile_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    source = scene()
    with pytest.raises(OutOfMemoryError, match="smallest tile"):
        through_stands(monkeypatch, source, finer(source), [Stand()], Hungry(1), tile=(40,))


class Failing(Image):
    """A sink that fails at its third box."""

    written = 0

    def write(self, box: Box, voxels: Voxels) -> None:
        self.written += 1
        if self.written == 3:
            raise WriteFailedError("The disk is full.")


def test_a_sink_that_fails_ends_the_run_and_leaves_nothing_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    source, stand = scene(), Stand()
    spec = finer(source).spec
    sink = Failing(spec, np.zeros(spec.shape, np.float32))
    with pytest.raises(WriteFailedError):
        through_stands(monkeypatch, source, sink, [stand], interpolate.build(PLANE), tile=(8,))
    assert stand.settled
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("geomedsr")]


def test_an_interrupt_ends_the_run_and_leaves_nothing_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Stand):
        def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
            raise KeyboardInterrupt

    source, stand = scene(), Interrupted()
    with pytest.raises(KeyboardInterrupt):
        through_stands(monkeypatch, source, finer(source), [stand], interpolate.build(PLANE), tile=(8,))
    assert stand.settled
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("geomedsr")]


def test_the_stream_needs_neither_files_nor_a_terminal() -> None:
    blocked = "rasterio nibabel zarr monai rich click scipy psutil accelerate yaml safetensors matplotlib openvino"
    code = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked.split()!r}:
            raise ImportError(name)

sys.meta_path.insert(0, Blocker())
import geomedsr.inference.upscaler, geomedsr.networks.edsr
"""
    subprocess.run([sys.executable, "-c", code], check=True)
