"""Every network of the folder, in 2 and 3 axes: shape, reach, settings, start, no shift."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional

from geomedsr import registry
from geomedsr.networks._blocks import PixelShuffle, stages
from geomedsr.networks._network import Network
from geomedsr.networks.interpolate import KERNELS, phases
from geomedsr.task import Task

SMALL: dict[str, dict[str, Any]] = {
    "edsr": {"width": 6, "blocks": 2},
    "fsrcnn": {"width": 8, "narrow": 4, "layers": 2},
}
FACTORS: list[tuple[int, ...]] = [(2, 2), (3, 3), (4, 1), (2, 2, 2), (1, 1, 4)]
NAMES = registry.names("networks")


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
    size = [2 * r + 7 for r in network.reach]
    x = torch.rand(1, 2, *size, dtype=torch.float64, requires_grad=True)
    middle = tuple(slice(f * (n // 2), f * (n // 2 + 1)) for n, f in zip(size, factor, strict=True))
    network(x)[(slice(None), slice(None), *middle)].square().sum().backward()
    assert x.grad is not None
    touched = (x.grad[0] != 0).any(0).nonzero()
    far = [int((touched[:, axis] - n // 2).abs().max()) for axis, n in enumerate(size)]
    assert all(f <= r for f, r in zip(far, network.reach, strict=True)), (far, network.reach)
    assert all(r - f <= 1 for f, r in zip(far, network.reach, strict=True)), "the stated reach is wasteful"


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


@pytest.mark.parametrize(("name", "channels", "published"), [("edsr", 3, 1_369_859), ("fsrcnn", 1, 12_464)])
def test_parameters_are_the_published_ones(name: str, channels: int, published: int) -> None:
    network = registry.load("networks", name).build(Task(2, channels, (2, 2)))
    # FSRCNN's published count leaves out biases and PReLU slopes.
    weights = sum(p.numel() for p in network.parameters() if name == "edsr" or p.ndim > 1)
    assert weights == published


def test_unknown_interpolation_is_refused() -> None:
    with pytest.raises(ValueError, match="not known"):
        registry.load("networks", "interpolate").build(Task(2, 1, (2, 2)), kernel="sharp")
