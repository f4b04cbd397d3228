from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from trust_models import recipe, unsettled

from geomedsr import registry
from geomedsr.image import Image
from geomedsr.inference.upscaler import Upscaler
from geomedsr.model import build_network
from geomedsr.networks import edsr, interpolate
from geomedsr.networks._consistency import Consistent, Projection
from geomedsr.task import Task
from geomedsr.trust.consistency import Tied, damping_for, noise_of
from geomedsr.trust.instrument import WHOLE, Instrument, instrument_of

LOCAL: list[tuple[str, dict[str, Any]]] = [
    ("sensor", {"mtf": 0.27}),
    ("sensor", {"mtf": [0.2, 0.35]}),
    ("slice_profile", {}),
    ("bicubic", {}),
]
EVERY = [*LOCAL, ("kspace", {}), ("slice_profile", {"profile": "box"})]


def instrument(name: str, settings: dict[str, Any], factor: tuple[int, ...] = (2, 2)) -> Instrument:
    return Instrument(name, registry.load("degradations", name).build(**settings).matrix, factor)


def coarse(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("name", "settings"), EVERY)
def test_an_instrument_is_the_degradation_without_noise(name: str, settings: dict[str, Any]) -> None:
    degrade = registry.load("degradations", name).build(**settings)
    x = coarse(2, 2, 24, 30)
    torch.testing.assert_close(
        instrument(name, settings, (3, 2)).degraded(x), degrade(x, (3, 2), torch.Generator()), rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(("name", "settings"), EVERY)
def test_what_is_tied_degrades_to_its_input(name: str, settings: dict[str, Any]) -> None:
    tool, x = instrument(name, settings), coarse(1, 2, 20, 23)
    network = unsettled(edsr.build(Task(2, 2, (2, 2)), width=8, blocks=1))
    with torch.inference_mode():
        assert float((tool.degraded(network(x)) - x).abs().max()) > 1e-3
        torch.testing.assert_close(tool.degraded(Tied(network, tool)(x)), x, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("name", "settings"), LOCAL)
def test_a_tile_differs_from_the_whole_by_a_millionth_of_what_was_taken_away(
    name: str, settings: dict[str, Any]
) -> None:
    tool = instrument(name, settings)
    network = Tied(unsettled(interpolate.build(Task(2, 2, (2, 2)))), tool)
    assert network.reach is not None
    assert max(network.reach) < 40
    rng = np.random.default_rng(0)
    image = Image.of(rng.gamma(2, 50, (2, 130, 121)).astype(np.float32))
    outputs = []
    for tile in (None, (24,)):
        upscaler = Upscaler(network, None, tile=tile)
        sink = Image.empty(image.spec.upscaled((2, 2)))
        outputs.append((upscaler.run(image, sink), sink.voxels))
    (whole, expected), (tiled, found) = outputs
    assert whole.tiles == 1 < tiled.tiles
    taken = np.abs(expected - interpolate.upsample(torch.from_numpy(image.voxels)[None], "cubic", (2, 2))[0].numpy())
    rounding = 4 * np.spacing(np.float32(np.abs(expected).max()))
    assert np.abs(found - expected).max() <= 1e-6 * taken.max() + rounding


def test_an_instrument_that_looks_along_whole_axes_is_given_them() -> None:
    tool = instrument("kspace", {})
    assert tool.reach == (WHOLE, WHOLE)
    assert instrument("kspace", {}, (1, 2)).reach == (0, WHOLE)
    network = Tied(unsettled(edsr.build(Task(2, 1, (2, 2)), width=8, blocks=1)), tool)
    image = Image.of(np.random.default_rng(0).gamma(2, 50, (1, 40, 37, 6)).astype(np.float32))
    sink = Image.empty(image.spec.upscaled((2, 2, 1)))
    outcome = Upscaler(network, None, axes=(0, 1), tile=(16, 16, 2)).run(image, sink)
    assert outcome.window == (40, 37, 2)
    assert outcome.tiles == 3
    seen = tool.degraded(torch.from_numpy(sink.voxels).movedim(-1, 0))
    np.testing.assert_allclose(seen.movedim(0, -1).numpy(), image.voxels, rtol=0, atol=1e-4 * image.voxels.max())


def test_a_network_that_strides_is_padded_before_the_projection() -> None:
    tool = instrument("kspace", {})
    network = interpolate.build(Task(2, 1, (2, 2)))
    network.multiple_of = 8
    tied, x = Tied(network, tool), coarse(1, 1, 21, 30)
    assert tied.multiple_of == 1
    torch.testing.assert_close(tool.degraded(tied(x)), x, rtol=0, atol=1e-5)


def test_a_network_with_a_projection_of_its_own_is_tied_anew() -> None:
    chosen = recipe(consistency={})
    network = build_network(chosen)
    assert isinstance(network, Consistent)
    tied = Tied(network, instrument_of(chosen, chosen.factor))
    assert tied.network is network.network


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "kspace"),
        ({"degradation": {"name": "blind"}}, "average"),
        ({"degradation": {"name": "sensor", "mtf": [[0.2, 0.3]]}}, "average"),
    ],
)
def test_without_one_linear_map_the_average_is_assumed_and_told(changes: dict[str, Any], name: str) -> None:
    found = instrument_of(recipe(**changes), (2, 2))
    assert found.name == name
    assert bool(found.assumption) == (name == "average")
    assert instrument_of(None, (2, 2)).name == "average"


def test_damping_leaves_as_much_as_the_noise() -> None:
    tool, x = instrument("sensor", {}), coarse(1, 1, 40, 40)
    noisy = x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    start = interpolate.upsample(x, "cubic", (2, 2))
    residual = noisy - tool.degraded(start)
    damping = damping_for(residual, tool, 0.05)
    left = noisy - tool.degraded(Projection(tool.matrix, tool.factor, damping)(start, noisy))
    assert float(left.square().mean().sqrt()) == pytest.approx(0.05, rel=1e-3)
    assert damping_for(residual, tool, 0.0) == 0.0
    assert damping_for(residual, tool, 10.0) > 1e7


def test_noise_is_found_beside_empty_ground() -> None:
    clean = torch.linspace(0, 1, 200).expand(1, 1, 400, 200)
    noisy = clean + 0.03 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(3))
    assert noise_of(noisy) == pytest.approx(0.03, rel=0.1)
    noisy[..., :100, :] = 0
    noisy[..., 100:200, :] += 3 * torch.rand(100, 200)  # texture, which is no noise
    assert noise_of(noisy) == pytest.approx(0.03, rel=0.1)
    assert noise_of(torch.zeros(1, 1, 8, 8)) == 0.0
