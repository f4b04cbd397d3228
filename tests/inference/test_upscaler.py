from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from geomedsr.data.intensity import Intensity, IntensityRule
from geomedsr.errors import GeomedsrError, ModelError, OutOfMemoryError, WriteFailedError
from geomedsr.grid import Box, Shape
from geomedsr.image import Image, ImageSpec, Voxels
from geomedsr.inference.session import Session
from geomedsr.inference.upscaler import Outcome, Upscaler
from geomedsr.networks import edsr, fsrcnn, interpolate
from geomedsr.networks._network import Network
from geomedsr.task import Task

PERCENTILE = IntensityRule(name="percentile", high=99)


def trained(network: Network) -> Network:
    """The network with weights that matter in every layer."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
        else:
            nn.init.uniform_(parameter, -0.1, 0.1)
    return network


def image(shape: Shape, holes: bool = False) -> Image:
    """Speckle, with holes of several kinds if asked for."""
    rng = np.random.default_rng(0)
    voxels = rng.gamma(2, 50, shape).astype(np.float32)
    if holes:
        voxels[:, : shape[1] // 4, : shape[2] // 5] = np.nan
        voxels[0, -20:-17, 10:40] = np.nan
        voxels[rng.random(shape) < 0.0005] = np.inf
    return Image.of(voxels)


def upscaled(network: Network, source: Image, tile: Shape | None = None, **more: object) -> tuple[Voxels, Outcome]:
    upscaler = Upscaler(network, PERCENTILE, tile=tile, **more)  # type: ignore[arg-type]
    sink = Image.empty(source.spec.upscaled(upscaler.factor_for(source.spec)))
    outcome = upscaler.run(source, sink)
    return sink.voxels, outcome


PLANE, PAIR, SPACE = Task(2, 1, (2, 2)), Task(2, 2, (2, 2)), Task(3, 1, (2, 2, 2))
SMALL = {"width": 8, "blocks": 2}
CASES: dict[str, tuple[Network, Shape, list[Shape]]] = {
    "fsrcnn": (fsrcnn.build(PLANE), (1, 150, 163), [(140,), (75, 163), (40,)]),
    "fsrcnn x3 on one axis": (fsrcnn.build(Task(2, 1, (3, 1))), (2, 70, 63), [(54,), (31, 63), (30,)]),
    "edsr": (edsr.build(PAIR, **SMALL), (2, 110, 103), [(90,), (57, 103), (40,)]),
    "edsr x4 planar": (edsr.build(Task(2, 1, (4, 4)), **SMALL), (2, 40, 33, 5), [(20, 20, 1), (18,), (40, 33, 2)]),
    "fsrcnn 3D": (fsrcnn.build(SPACE, width=16, narrow=6, layers=1), (1, 21, 30, 27), [(9,), (13,), (21, 30, 7)]),
    "edsr 3D": (edsr.build(SPACE, width=8, blocks=1), (1, 21, 30, 27), [(9,), (13,), (21, 30, 7)]),
    "cubic": (interpolate.build(PLANE), (2, 70, 83), [(23,), (50,), (70, 19)]),
    "lanczos 3D": (
        interpolate.build(Task(3, 1, (2, 1, 3)), kernel="lanczos"),
        (1, 21, 30, 27),
        [(9,), (16,), (21, 30, 7)],
    ),
}


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_tiles_give_the_whole_image_bit_for_bit(name: str, holes: bool) -> None:
    network, shape, tiles = CASES[name]
    source = image(shape, holes)
    whole, outcome = upscaled(trained(network), source, shape[1:])
    assert outcome.tiles == 1
    for tile in tiles:
        voxels, outcome = upscaled(network, source, tile)
        assert outcome.tiles > 1
        assert np.array_equal(voxels, whole, equal_nan=True), f"{tile}: {np.nanmax(np.abs(voxels - whole))}"


@pytest.mark.parametrize("name", CASES)
def test_the_whole_image_is_what_the_network_gives(name: str) -> None:
    network, shape, _ = CASES[name]
    source = image(shape)
    if network.task.ndim != len(shape) - 1:
        pytest.skip("the slices are compared below")
    found, _ = upscaled(trained(network), source, shape[1:])
    intensity = PERCENTILE.fit(source)
    x = torch.from_numpy(intensity.apply(source.voxels))
    with torch.inference_mode():
        y = network.eval()(x[None] if network.task.channels == shape[0] else x[:, None])
    expected = intensity.invert(y.reshape(found.shape).numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())  # other orders of the same sums


def test_a_planar_network_works_on_slices_of_a_volume() -> None:
    source = image((2, 20, 8, 22))
    network = trained(fsrcnn.build(PLANE))
    found, _ = upscaled(network, source, axes=(0, 2))
    assert found.shape == (2, 40, 8, 44)
    with torch.inference_mode():
        intensity = PERCENTILE.fit(source)
        x = torch.from_numpy(np.ascontiguousarray(intensity.apply(source.voxels[1, :, 5])))
        expected = intensity.invert(network.eval()(x[None, None])[0, 0].numpy())
    np.testing.assert_allclose(found[1, :, 5], expected, atol=1e-5 * np.abs(expected).max())


def test_invalid_voxels_stay_invalid_and_spoil_no_other() -> None:
    source = image((2, 60, 70), holes=True)
    found, _ = upscaled(trained(edsr.build(PAIR, **SMALL)), source)
    expected = np.repeat(np.repeat(~np.isfinite(source.voxels), 2, 1), 2, 2)
    assert np.array_equal(np.isnan(found), expected)


def test_an_image_without_any_valid_voxel_stays_so() -> None:
    source = Image.of(np.full((1, 30, 30), np.nan))
    found, _ = upscaled(trained(fsrcnn.build(PLANE)), source)
    assert np.isnan(found).all()


class Strided(Network):
    """Wants lengths that divide by 4: the mean of each 4 x 4 block, added to the nearest neighbour."""

    multiple_of = 4
    reach = (3, 3)

    def __init__(self, limit: int = 1 << 40) -> None:
        super().__init__(PLANE)
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() > self.limit and x.device.type != "meta":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
        assert all(n % 4 == 0 for n in x.shape[2:])
        mean = nn.functional.avg_pool2d(x, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
        return mean + x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_a_strided_network_sees_multiples_only() -> None:
    source = image((1, 61, 75))
    whole, _ = upscaled(Strided(), source, (64, 76))
    for tile in ((8,), (24,), (61, 9)):
        found, outcome = upscaled(Strided(), source, tile)
        assert outcome.tiles > 1
        assert np.array_equal(found, whole)


def test_out_of_memory_goes_on_with_smaller_tiles() -> None:
    source = image((1, 61, 75))
    whole, _ = upscaled(Strided(), source, (64, 76))
    told: list[str] = []
    found, outcome = upscaled(Strided(limit=300), source, tell=told.append)
    assert np.array_equal(found, whole)
    assert np.prod(outcome.window) <= 300
    assert told[0].startswith("Memory ran out with windows of (")
    assert told[-1].endswith(f"going on with {outcome.window}.")


def test_no_memory_for_a_result_is_a_tile_done_again_in_smaller_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    source = image((1, 61, 75))
    whole, before = upscaled(Strided(), source, (32, 32))
    result, failed = Session._result, []

    def short(self: Session, loaded: Any, batch: Any) -> Voxels:
        if self.window == before.window and len(failed) < 3:
            failed.append(loaded.tile)
            raise MemoryError
        return result(self, loaded, batch)

    monkeypatch.setattr(Session, "_result", short)
    found, outcome = upscaled(Strided(), source, (32, 32))
    assert len(failed) == 3
    assert outcome.voxels == 4 * 61 * 75
    assert np.array_equal(found, whole)


def test_out_of_memory_at_the_smallest_tile_is_said() -> None:
    with pytest.raises(OutOfMemoryError, match=r"smallest tile, \(12, 12\)"):
        upscaled(Strided(limit=20), image((1, 61, 75)))


class Global(Strided):
    reach = None


def test_a_network_that_looks_everywhere_sees_the_whole_image_or_refuses() -> None:
    source = image((1, 61, 75))
    found, outcome = upscaled(Global(), source)
    assert (outcome.tiles, outcome.window) == (1, (64, 76))
    assert np.array_equal(found, upscaled(Strided(), source)[0])
    with pytest.raises(ModelError, match="whole image at once, which takes"):
        upscaled(Global(), source, memory=1000)


def test_a_budget_below_the_smallest_window_is_refused() -> None:
    with pytest.raises(OutOfMemoryError, match="smallest window"):
        upscaled(fsrcnn.build(PLANE), image((1, 61, 75)), memory=1000)


def test_memory_bounds_the_window() -> None:
    network = fsrcnn.build(PLANE)
    source = image((1, 300, 300))
    _, outcome = upscaled(network, source, memory=12 << 20)
    assert outcome.tiles > 1
    assert np.prod(outcome.window) * 500 < 12 << 20


class Recorder(Image):
    """A sink that notes what is done to it, and can fail."""

    def __init__(self, spec: ImageSpec, fail_at: int | None = None, commit_fails: bool = False) -> None:
        super().__init__(spec, np.full(spec.shape, np.nan, np.float32))
        self.calls: list[str] = []
        self.threads: set[str] = set()
        self.fail_at, self.commit_fails = fail_at, commit_fails

    def write(self, box: Box, voxels: Voxels) -> None:
        if self.fail_at is not None and self.calls.count("write") == self.fail_at:
            raise WriteFailedError("The disk is full.")
        self.calls.append("write")
        self.threads.add(threading.current_thread().name)
        super().write(box, voxels)

    def commit(self, verify: object = None) -> None:
        self.calls.append("commit")
        if self.commit_fails:
            raise WriteFailedError("The disk is full.")

    def abort(self) -> None:
        self.calls.append("abort")


def recorder(source: Image, **more: object) -> Recorder:
    return Recorder(source.spec.upscaled((2, 2)), **more)  # type: ignore[arg-type]


def test_the_sink_is_committed_once_and_written_by_one_thread() -> None:
    source = image((1, 60, 70))
    sink = recorder(source)
    seen: list[tuple[int, int]] = []
    outcome = Upscaler(interpolate.build(PLANE), None, tile=(16,)).run(source, sink, lambda *at: seen.append(at))
    assert sink.calls == ["write"] * outcome.tiles + ["commit"]
    assert len(sink.threads) == 1
    assert seen[0] == (0, 4 * 60 * 70)
    assert seen[-1] == (4 * 60 * 70, 4 * 60 * 70)
    assert seen == sorted(seen)
    assert outcome.voxels == 4 * 60 * 70
    assert 0 <= outcome.waited <= 1
    assert (outcome.device, outcome.precision) == ("cpu", "float32")


@pytest.mark.parametrize("fail_at", [0, 1, 19])
def test_a_failed_write_never_ends_in_a_commit(fail_at: int) -> None:
    source = image((1, 60, 70))
    sink = recorder(source, fail_at=fail_at)
    with pytest.raises(WriteFailedError, match="disk is full"):
        Upscaler(interpolate.build(PLANE), None, tile=(16,)).run(source, sink)
    assert sink.calls == ["write"] * fail_at + ["abort"]


def test_a_failed_commit_is_an_abort() -> None:
    source = image((1, 60, 70))
    sink = recorder(source, commit_fails=True)
    with pytest.raises(WriteFailedError):
        Upscaler(interpolate.build(PLANE), None).run(source, sink)
    assert sink.calls[-2:] == ["commit", "abort"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("gone")])
def test_what_the_reader_meets_aborts(error: BaseException) -> None:
    class Broken(Image):
        def read(self, box: Box) -> Voxels:
            if box.start[0] > 20:
                raise error
            return super().read(box)

    whole = image((1, 60, 70))
    source, sink = Broken(whole.spec, whole.voxels), recorder(whole)
    with pytest.raises(type(error)):
        Upscaler(interpolate.build(PLANE), None, tile=(16,)).run(source, sink)
    assert "commit" not in sink.calls
    assert sink.calls[-1] == "abort"


def test_an_interrupt_while_the_network_runs_ends_the_run() -> None:
    source = image((1, 60, 70))
    sink = recorder(source)

    def interrupt(done: int, total: int) -> None:
        if done > total // 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Upscaler(interpolate.build(PLANE), None, tile=(8,)).run(source, sink, interrupt)
    assert sink.calls[-1] == "abort"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("geomedsr")]


def test_the_intensity_is_fitted_once_for_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = []

    def fit(rule: IntensityRule, source: Image) -> Intensity:
        fits.append(source)
        return Intensity(10.0, 5.0)

    monkeypatch.setattr(IntensityRule, "fit", fit)
    source = image((1, 40, 40))
    found, _ = upscaled(interpolate.build(PLANE, kernel="nearest"), source, (16,))
    assert len(fits) == 1
    np.testing.assert_allclose(found[0, ::2, ::2], source.voxels[0], rtol=1e-5)  # out of the intensity and back


def test_a_palette_is_for_nearest_alone() -> None:
    source = image((1, 20, 20))
    source.spec = replace(source.spec, extra={"palette": True})
    with pytest.raises(ModelError, match="palette"):
        upscaled(interpolate.build(PLANE), source)
    sink = Image.empty(source.spec.upscaled((2, 2)))
    Upscaler(interpolate.build(PLANE, kernel="nearest"), None).run(source, sink)
    assert np.array_equal(sink.voxels[:, ::2, ::2], source.voxels)


@pytest.mark.parametrize("tile", [(1, 2, 3), (0,), ()])
def test_a_tile_that_cannot_be_is_refused(tile: Shape) -> None:
    with pytest.raises(ModelError, match="A tile is"):
        upscaled(interpolate.build(PLANE), image((1, 20, 20)), tile)


def test_a_sink_of_another_shape_is_refused() -> None:
    source = image((1, 20, 20))
    with pytest.raises(ModelError, match="output has the shape"):
        Upscaler(interpolate.build(PLANE), None).run(source, Image.empty(source.spec))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"device": "toaster"}, "is no device"),
        ({"device": "cuda:99"}, "cannot use one here"),
        ({"precision": "int3"}, "not known"),
    ],
)
def test_a_device_or_precision_that_is_not_here_is_refused(more: dict[str, str], message: str) -> None:
    with pytest.raises(GeomedsrError, match=message):
        upscaled(interpolate.build(PLANE), image((1, 20, 20)), **more)


def test_bf16_is_near_float32() -> None:
    source = image((1, 60, 60))
    network = fsrcnn.build(PLANE)  # untrained: the interpolation and a zero correction
    exact, _ = upscaled(network, source)
    near, outcome = upscaled(network, source, precision="bf16")
    assert outcome.precision == "bf16"
    assert near.dtype == np.float32
    np.testing.assert_allclose(near, exact, atol=0.02 * np.abs(exact).max())


def test_the_network_of_the_caller_is_left_alone() -> None:
    network = trained(fsrcnn.build(PLANE)).train()
    upscaled(network, image((1, 30, 30)), precision="bf16")
    assert network.training
    assert all(p.requires_grad and p.dtype == torch.float32 and p.is_contiguous() for p in network.parameters())
