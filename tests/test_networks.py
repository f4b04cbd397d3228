"""Every network of the folder, in 2 and 3 axes: shape, reach, settings, start, no shift."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from geomedsr import registry
from geomedsr.inference.kernels import OneKernel
from geomedsr.networks._blocks import PixelShuffle, pad_to_multiple, repeat_voxels, stages
from geomedsr.networks._network import Network
from geomedsr.networks.interpolate import KERNELS, phases, upsample
from geomedsr.networks.liif import LIIF, interpolated, places
from geomedsr.networks.span import SPAN, MergedConv, _odd, _silu
from geomedsr.networks.spsr import SPSR, gradient_magnitude
from geomedsr.task import Task
from geomedsr.tiling import plan

SMALL: dict[str, dict[str, Any]] = {
    "edsr": {"width": 6, "blocks": 2},
    "fsrcnn": {"width": 8, "narrow": 4, "layers": 2},
    "isrnet": {"width": 4, "depth": 1},
    "liif": {"width": 6, "blocks": 1, "hidden": 8, "layers": 1},
    "rrdb": {"width": 4, "blocks": 1, "growth": 2},
    "span": {"width": 4, "blocks": 2, "gain": 2.0},
    "spsr": {"width": 4, "blocks": 1, "growth": 2, "taps": 1},
    "srresnet": {"width": 6, "blocks": 1, "kernel": 5},
    "swinir": {"width": 8, "groups": 1, "depth": 2, "heads": 2, "window": 4},
}
FACTORS: list[tuple[int, ...]] = [(2, 2), (3, 3), (4, 1), (2, 2, 2), (1, 1, 4)]
NAMES = registry.names("networks")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """On images this small more threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(name: str, factor: tuple[int, ...], channels: int = 2) -> Network:
    torch.manual_seed(0)
    network: Network = registry.load("networks", name).build(Task(len(factor), channels, factor), **SMALL.get(name, {}))
    return network.eval()


def shaken(network: Network) -> Network:
    """All weights random, so that the zero at the end does not hide what the network looks at."""
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    return network


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", NAMES)
def test_shape_is_input_times_factor(name: str, factor: tuple[int, ...]) -> None:
    x = torch.rand(1, 2, *(5 + i for i in range(len(factor))))
    y = make(name, factor)(x)
    assert y.shape == (1, 2, *(n * f for n, f in zip(x.shape[2:], factor, strict=True)))


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", NAMES)
def test_untrained_is_the_cubic_interpolation(name: str, factor: tuple[int, ...]) -> None:
    x = torch.rand(1, 2, *[7] * len(factor))
    assert torch.equal(make(name, factor)(x), make("interpolate", factor)(x))


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("name", NAMES)
def test_reach_is_true_and_tight(name: str, factor: tuple[int, ...]) -> None:
    network = shaken(make(name, factor)).double()
    assert network.reach is not None
    far = [farthest(network, axis, reach) for axis, reach in enumerate(network.reach)]
    assert all(f <= r for f, r in zip(far, network.reach, strict=True)), (far, network.reach)
    assert all(r - f <= 1 for f, r in zip(far, network.reach, strict=True)), (far, network.reach)


def farthest(network: Network, axis: int, reach: int) -> int:
    """How far the network looks along an axis of an image that is thin on the others, from the worst place."""
    multiple, found = network.multiple_of, 0
    size = [4] * network.task.ndim
    middle = -(-(reach + 3) // multiple) * multiple
    size[axis] = 2 * middle + multiple
    for place in range(middle, middle + multiple):
        x = torch.rand(1, 2, *size, dtype=torch.float64, requires_grad=True)
        factor = network.task.factor[axis]
        network(x).narrow(2 + axis, factor * place, factor).square().sum().backward()
        assert x.grad is not None
        touched = (x.grad != 0).nonzero()[:, 2 + axis]
        found = max(found, int((touched - place).abs().max()))
    return found


@pytest.mark.parametrize("factor", [(2, 2), (3, 1), (1, 2, 2)])
@pytest.mark.parametrize("name", NAMES)
def test_tiles_give_the_bits_of_the_whole(name: str, factor: tuple[int, ...]) -> None:
    network = shaken(make(name, factor))
    assert network.reach is not None
    multiple, halo = (network.multiple_of,) * len(factor), network.reach
    other = (24,) if len(factor) == 2 else (4, 5)
    size, window = (2 * halo[0] + 60, *other), (2 * halo[0] + 25, *other)
    x = torch.rand(1, 2, *size, generator=torch.Generator().manual_seed(2))
    tiles = plan(size, factor, window, halo, multiple_of=multiple)
    with torch.inference_mode(), OneKernel():
        whole = network(x).numpy()
        tiled = np.full_like(whole, np.nan)
        for tile in tiles:
            piece = pad_to_multiple(x[:, :, *tile.read.slices], multiple[0])
            tiled[:, :, *tile.write.slices] = network(piece).numpy()[:, :, *tile.keep.slices]
    assert len(tiles) > 2
    assert np.isfinite(whole).all()
    np.testing.assert_array_equal(tiled, whole)


@pytest.mark.parametrize("factor", [(2, 2), (3, 3), (4, 1), (5, 1, 2)])
@pytest.mark.parametrize("name", ["isrnet", "rrdb", "spsr"])
def test_symmetric_weights_give_a_symmetric_network(name: str, factor: tuple[int, ...]) -> None:
    """What shifts the image, by however little, does not commute with turning it over."""
    network, axes = shaken(make(name, factor)).double(), tuple(range(2, 2 + len(factor)))
    for parameter in network.parameters():
        if parameter.ndim > 2:
            parameter.data += parameter.data.flip(axes)
    x = torch.rand(1, 2, *[8] * len(factor), dtype=torch.float64)
    torch.testing.assert_close(network(x.flip(axes)), network(x).flip(axes))


@pytest.mark.parametrize("factor", [(2, 2), (1, 1, 2)])
@pytest.mark.parametrize("name", NAMES)
def test_a_pass_can_be_sized_up_without_computing_it(name: str, factor: tuple[int, ...]) -> None:
    network = make(name, factor).to("meta")
    assert network(torch.empty(1, 2, *[8] * len(factor), device="meta")).is_meta


@pytest.mark.parametrize("name", [name for name in NAMES if name != "interpolate"])
def test_half_precision_stays_near_full_precision(name: str) -> None:
    """As autocast runs it in training: what it rounds is less than a twentieth of what the network adds."""
    network, x = shaken(make(name, (2, 2))), torch.rand(1, 2, 12, 12)
    with torch.no_grad():
        exact = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = network(x)
    added = (exact - upsample(x, "cubic", (2, 2))).square().mean().sqrt()
    assert float((rounded - exact).square().mean().sqrt() / added) < 0.05


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_of_a_network_is_floating_point(name: str) -> None:
    state = make(name, (2, 2)).state_dict()
    assert all(tensor.is_floating_point() for tensor in state.values()), "an average of the weights must be possible"


@pytest.mark.parametrize("name", NAMES)
def test_settings_rebuild_the_network(name: str) -> None:
    network = make(name, (2, 2))
    again = registry.load("networks", name).build(network.task, **network.settings)
    assert [p.shape for p in again.parameters()] == [p.shape for p in network.parameters()]


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("factor", [2, 3, 4, 5])
def test_interpolation_keeps_constants_and_is_symmetric(kernel: str, factor: int) -> None:
    table = phases(kernel, factor)
    for taps, mirrored in zip(table, reversed(table), strict=True):
        assert sum(w for _, w in taps) == pytest.approx(1, abs=1e-12)
        if kernel != "nearest":
            there = dict(taps)
            assert {-k: pytest.approx(w) for k, w in mirrored} == there


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("kernel", ["linear", "cubic", "lanczos"])
def test_interpolation_keeps_a_blob_where_it_is(kernel: str, factor: int) -> None:
    place = torch.arange(41, dtype=torch.float64) + 0.5
    blob = torch.exp(-((place - 20.3) ** 2) / 18)[None, None, :, None].expand(1, 1, 41, 3)
    network = registry.load("networks", "interpolate").build(Task(2, 1, (factor, 1)), kernel=kernel)
    fine = network(blob)[0, 0, :, 1]
    world = (torch.arange(fine.numel(), dtype=torch.float64) + 0.5) / factor
    assert float((fine * world).sum() / fine.sum()) == pytest.approx(20.3, abs=0.01)


def test_linear_equals_torch() -> None:
    x = torch.rand(1, 1, 9, 8)
    network = registry.load("networks", "interpolate").build(Task(2, 1, (3, 2)), kernel="linear")
    expected = functional.interpolate(x, scale_factor=(3, 2), mode="bilinear", align_corners=False)
    torch.testing.assert_close(network(x), expected)


def test_pixel_shuffle_equals_torch() -> None:
    x = torch.rand(2, 2 * 6, 4, 5)
    shuffled = PixelShuffle((3, 2))(x)
    assert shuffled.shape == (2, 2, 12, 10)
    torch.testing.assert_close(shuffled[0, 0, 1, 1], x[0, 3, 0, 0])
    y = torch.rand(2, 8, 4, 5)
    ours = PixelShuffle((2, 2))(y)
    torch.testing.assert_close(ours, functional.pixel_shuffle(y, 2))


@pytest.mark.parametrize("factor", [(6, 1), (4, 4), (1, 1, 4), (3, 2), (8, 2, 1)])
def test_stages_multiply_to_the_factor(factor: tuple[int, ...]) -> None:
    steps = stages(factor)
    product = [math.prod(step[i] for step in steps) for i in range(len(factor))]
    assert tuple(product) == factor


@pytest.mark.parametrize(
    ("name", "factor", "settings", "published"),
    [
        ("edsr", 2, {}, 1.37e6),
        ("rrdb", 4, {}, 16.7e6),
        ("span", 4, {"branches": False}, 498e3),
        ("span", 2, {"branches": False}, 481e3),
        ("span", 4, {"branches": False, "width": 48}, 426e3),
        ("spsr", 4, {}, 24.8e6),
        ("srresnet", 4, {}, 1.55e6),
        ("liif", 2, {}, 1.57e6),
        ("swinir", 2, {}, 910e3),
        ("swinir", 4, {}, 930e3),
    ],
)
def test_parameters_are_the_published_ones(name: str, factor: int, settings: dict[str, Any], published: float) -> None:
    with torch.device("meta"):
        network = registry.load("networks", name).build(Task(2, 3, (factor, factor)), **settings)
    assert network.parameter_count == pytest.approx(published, rel=0.01)


def test_parameters_of_fsrcnn_are_the_published_ones() -> None:
    network = registry.load("networks", "fsrcnn").build(Task(2, 1, (2, 2)))
    # The published count leaves out biases and PReLU slopes.
    assert sum(p.numel() for p in network.parameters() if p.ndim > 1) == 12_464


def test_unknown_interpolation_is_refused() -> None:
    with pytest.raises(ValueError, match="not known"):
        registry.load("networks", "interpolate").build(Task(2, 1, (2, 2)), kernel="sharp")


def test_repeated_voxels_are_the_nearest_ones() -> None:
    x = torch.rand(1, 2, 3, 4, 5)
    assert torch.equal(repeat_voxels(x, (2, 1, 3)), upsample(x, "nearest", (2, 1, 3)))


# SRResNet


def test_srresnet_without_normalisation_has_the_blocks_of_edsr() -> None:
    network = registry.load("networks", "srresnet").build(Task(2, 1, (2, 2)), width=4, blocks=1, norm=False)
    x = torch.rand(1, 1, 6, 7)
    assert torch.equal(network(x), upsample(x, "cubic", (2, 2)))
    assert not list(network.buffers())


def test_normalisation_learns_the_batch_and_remembers_it() -> None:
    network = make("srresnet", (2, 2)).train()
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    network(torch.rand(3, 2, 8, 8))
    assert all(not torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())


# SPAN


@pytest.mark.parametrize("ndim", [2, 3])
def test_merged_convolution_is_its_chain(ndim: int) -> None:
    torch.manual_seed(0)
    chain = MergedConv(ndim, 3, 5).double()
    x = torch.rand(2, 3, *[6] * ndim, dtype=torch.float64)
    border = (1, 1) * ndim
    run = functional.conv2d if ndim == 2 else functional.conv3d
    wide = run(chain.expand(functional.pad(x, border)), chain.mix.weight, chain.mix.bias)
    torch.testing.assert_close(chain(x), chain.reduce(wide) + chain.beside(x))


def test_merged_span_is_the_same_network() -> None:
    network = shaken(make("span", (2, 3)))
    assert isinstance(network, SPAN)
    merged = network.merged()
    x = torch.rand(1, 2, 9, 8)
    torch.testing.assert_close(merged(x), network(x))
    assert merged.parameter_count < network.parameter_count / 2
    again = registry.load("networks", "span").build(merged.task, **merged.settings)
    again.load_state_dict(merged.state_dict())


def test_span_attends_by_an_odd_function_of_the_features() -> None:
    x = torch.linspace(-9, 9, 37, dtype=torch.float64)
    torch.testing.assert_close(_odd(x), torch.sigmoid(x) - 0.5)
    torch.testing.assert_close(_silu(x), functional.silu(x))


# SPSR


def test_the_gradient_branch_has_its_map_in_training_alone() -> None:
    network = make("spsr", (2, 2)).train()
    assert isinstance(network, SPSR)
    x, hr = torch.rand(1, 2, 8, 9), torch.rand(1, 2, 16, 18)
    network(x)
    assert network.gradient is not None
    assert network.gradient.shape == hr.shape
    torch.autograd.backward(network.gradient_loss(hr))
    assert network.edge_tail.weight.grad is not None
    assert deepcopy(network).gradient is None
    network.eval()(x)
    with pytest.raises(RuntimeError, match="after a forward pass in training"):
        network.gradient_loss(hr)


def test_the_gradient_of_a_slope_is_its_steepness() -> None:
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing="ij")
    slope = gradient_magnitude((3 * rows + 4 * columns)[None, None])
    torch.testing.assert_close(slope[0, 0, 1:-1, 1:-1], torch.full((4, 5), 10.0))


# LIIF


@pytest.mark.parametrize(("coarse", "fine"), [(5, 10), (7, 21), (6, 9), (1000, 3000)])
def test_equal_phases_are_equal_bits(coarse: int, fine: int) -> None:
    before, way = places(coarse, fine)
    expected = (torch.arange(fine, dtype=torch.float64) + 0.5) * coarse / fine - 0.5
    torch.testing.assert_close(before + way, expected)
    assert len(set(way.tolist())) == fine // math.gcd(coarse, fine)


@pytest.mark.parametrize("kernel", KERNELS)
def test_interpolation_on_any_grid_is_that_of_whole_factors(kernel: str) -> None:
    x = torch.rand(1, 2, 7, 6, dtype=torch.float64)
    torch.testing.assert_close(interpolated(x, kernel, (21, 6)), upsample(x, kernel, (3, 1)))


def test_liif_answers_for_any_finer_grid() -> None:
    network = shaken(make("liif", (2, 3)))
    assert isinstance(network, LIIF)
    x = torch.rand(1, 2, 6, 7)
    torch.testing.assert_close(network.resampled(x, (12, 21)), network(x))
    assert network.resampled(x, (9, 7)).shape == (1, 2, 9, 7)
    with pytest.raises(ValueError, match="cannot be made finer"):
        network.resampled(x, (12, 6))


def test_liif_keeps_a_blob_where_it_is_on_a_grid_between() -> None:
    place = torch.arange(40, dtype=torch.float64) + 0.5
    blob = torch.exp(-((place - 20.3) ** 2) / 18)[None, None, :, None].expand(1, 1, 40, 3)
    fine = interpolated(blob, "cubic", (63, 3))[0, 0, :, 1]
    world = (torch.arange(63, dtype=torch.float64) + 0.5) * 40 / 63
    assert float((fine * world).sum() / fine.sum()) == pytest.approx(20.3, abs=0.01)


# Settings that cannot be


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("spsr", {"blocks": 2, "taps": 3}, "1 to 2 taps"),
        ("swinir", {"window": 5}, "window is even"),
        ("swinir", {"width": 10, "heads": 3}, "heads divide the width"),
        ("edsr", {"blocks": -1}, "blocks is at least 0, not -1"),
        ("span", {"gain": -2.0}, "gain is at least 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        registry.load("networks", name).build(Task(2, 1, (2, 2)), **settings)
