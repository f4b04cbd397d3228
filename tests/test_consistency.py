"""Data consistency: exact for every kind of degradation, least in what it changes, damped as Tikhonov says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from geomedsr import registry
from geomedsr.networks._consistency import Consistent, Projection
from geomedsr.task import Task

DEGRADATIONS: list[tuple[str, dict[str, Any]]] = [
    ("slice_profile", {"profile": "box"}),
    ("slice_profile", {"profile": "sinc", "gap": 0.2}),
    ("sensor", {"mtf": 0.3}),
    ("sensor", {"mtf": [0.2, 0.35]}),
    ("kspace", {}),
    ("kspace", {"apodisation": 0.5}),
    ("bicubic", {}),
]
FACTORS = [(2, 2), (4, 1), (3, 2), (1, 1, 4), (2, 2, 2)]


def degradation(name: str, settings: dict[str, Any]) -> Any:
    return registry.load("degradations", name).build(**settings)


def images(factor: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A fine image and a coarse one that has nothing to do with it, in the range of a network's intensities."""
    generator = torch.Generator().manual_seed(0)
    coarse = (9, 8, 7)[: len(factor)]
    fine = [n * f for n, f in zip(coarse, factor, strict=True)]
    return torch.rand(2, 2, *fine, generator=generator), torch.rand(2, 2, *coarse, generator=generator)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(("name", "settings"), DEGRADATIONS)
def test_what_is_projected_degrades_to_the_input(name: str, settings: dict[str, Any], factor: tuple[int, ...]) -> None:
    degrade, (x, _) = degradation(name, settings), images(factor)
    # Of another image: a tapered k-space cannot give every coarse image.
    y = degrade(x.roll(1, 0), factor, torch.Generator())
    found = Projection(degrade.matrix, factor)(x, y)
    assert found.dtype == torch.float32
    torch.testing.assert_close(degrade(found, factor, torch.Generator()), y, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "settings"), DEGRADATIONS)
def test_the_change_is_the_least_that_will_do(name: str, settings: dict[str, Any]) -> None:
    degrade, (x, y) = degradation(name, settings), images((3, 2))
    project = Projection(degrade.matrix, (3, 2))
    once = project(x.double(), y.double())
    torch.testing.assert_close(project(once, y.double()), once)
    rows, columns = degrade.matrix(x.shape[2], 3), degrade.matrix(x.shape[3], 2)
    inverse = torch.linalg.pinv(rows), torch.linalg.pinv(columns)
    expected = x + inverse[0] @ (y.double() - rows @ x.double() @ columns.mT) @ inverse[1].mT
    torch.testing.assert_close(once, expected)


def test_damping_is_that_of_tikhonov() -> None:
    degrade, (x, y) = degradation("sensor", {}), images((2, 2))
    x, y, damping = x.double(), y.double(), 0.05
    found = Projection(degrade.matrix, (2, 2), damping)(x, y)
    whole = torch.kron(degrade.matrix(18, 2), degrade.matrix(16, 2))
    rest = y.flatten(2) - x.flatten(2) @ whole.mT
    inner = whole @ whole.mT + damping * torch.eye(len(whole), dtype=torch.float64)
    expected = x.flatten(2) + torch.linalg.solve(inner, rest.mT).mT @ whole
    torch.testing.assert_close(found.flatten(2), expected)


def test_what_is_consistent_already_is_left_alone() -> None:
    degrade, (x, _) = degradation("kspace", {}), images((2, 2, 2))
    y = degrade(x, (2, 2, 2), torch.Generator())
    torch.testing.assert_close(Projection(degrade.matrix, (2, 2, 2))(x, y), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["edsr", "isrnet"])
def test_any_network_can_end_with_it(name: str) -> None:
    degrade, (_, y) = degradation("sensor", {}), images((2, 2))
    network = registry.load("networks", name).build(Task(2, 2, (2, 2)), width=4)
    consistent = Consistent(network, degrade.matrix)
    with torch.autocast("cpu", torch.bfloat16):
        found = consistent(y)
    torch.testing.assert_close(degrade(found, (2, 2), torch.Generator()), y, rtol=0, atol=1e-5)
    found.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert consistent.multiple_of == network.multiple_of
    assert consistent.reach is None
    assert all(key.startswith("network.") for key in consistent.state_dict())


def test_negative_damping_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 0"):
        Projection(degradation("kspace", {}).matrix, (2, 2), -1.0)
