from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from geomedsr import registry
from geomedsr.grid import Factor
from geomedsr.inference.backend import TorchBackend
from geomedsr.inference.rolling import steps_of
from geomedsr.networks import edsr
from geomedsr.networks._network import Network
from geomedsr.task import Task

SMALL: dict[str, dict[str, int]] = {
    "edsr": {"width": 16, "blocks": 2},
    "fsrcnn": {},
    "interpolate": {},
    "rrdb": {"width": 8, "growth": 8, "blocks": 1},
    "span": {"width": 12},
    "srresnet": {"width": 12, "blocks": 2},
}
"""The networks that are worked through by rows, in small settings."""


def built(name: str, factor: Factor) -> TorchBackend:
    network = registry.load("networks", name).build(Task(len(factor), 2, factor), **SMALL[name]).for_inference()
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1)
    return TorchBackend(network)


def by_rows(backend: TorchBackend, x: Tensor, axis: int, cuts: list[int]) -> Tensor:
    rolling, found = backend.rolling(axis), []
    ends = [*cuts, x.shape[axis]]
    for begin, end in zip([0, *cuts], ends, strict=True):
        rows = backend.feed(rolling, x.narrow(axis, begin, end - begin).numpy(), end == x.shape[axis])
        if rows is not None:
            found.append(torch.from_numpy(rows.copy()))
    return torch.cat(found, axis)


@pytest.mark.parametrize("factor", [(2, 3), (4, 1), (1, 2, 1)])
@pytest.mark.parametrize("name", SMALL)
def test_rows_give_the_bits_of_the_whole_image(name: str, factor: Factor) -> None:
    backend = built(name, factor)
    for axis in range(2, 2 + len(factor)):
        lengths = [9, 11, 8][: len(factor)]
        lengths[axis - 2] = 44
        x = torch.randn(1, 2, *lengths)
        whole = torch.from_numpy(backend.run(x.numpy()))
        for cuts in ([], [20, 31], [3, 4, 5, 30, 43]):
            assert torch.equal(by_rows(backend, x, axis, cuts), whole)


EDSR = built("edsr", (2, 2))
IMAGE = torch.randn(2, 2, 40, 19, generator=torch.Generator().manual_seed(1))
WHOLE = torch.from_numpy(EDSR.run(IMAGE.numpy()))


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(1, 39), max_size=12))
def test_it_does_not_matter_how_the_rows_come(cuts: set[int]) -> None:
    assert torch.equal(by_rows(EDSR, IMAGE, 2, sorted(cuts)), WHOLE)


def test_what_is_kept_does_not_grow_with_the_rows() -> None:
    rolling, kept = EDSR.rolling(2), []
    for _ in range(8):
        EDSR.feed(rolling, np.ones((1, 2, 8, 24), np.float32), ended=False)
        kept.append(rolling.kept)
    assert kept[-1] == kept[-2] == kept[-3]
    assert kept[-1] == EDSR.carried * 24


class Looking(Network):
    """Decides by what it sees, which no recording can hold."""

    reach = (1, 1)

    def __init__(self) -> None:
        super().__init__(Task(2, 1, (1, 1)))
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x) if x.mean() > 0 else x
        return y


class Strided(Looking):
    """A layer that no rule is known for."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(self.layer(x), 3, 1, 1)


@pytest.mark.parametrize("network", [Looking(), Strided()])
def test_a_network_without_rules_is_left_whole(network: Network) -> None:
    assert steps_of(network, 2) is None


def test_its_backend_says_so() -> None:
    assert EDSR.rolls
    assert not TorchBackend(Strided()).rolls


@pytest.mark.parametrize("name", ["isrnet", "liif", "swinir"])
def test_networks_that_look_in_strides_or_windows_are_left_whole(name: str) -> None:
    network = registry.load("networks", name).build(Task(2, 1, (2, 2)))
    assert steps_of(network, 2) is None


def test_bf16_by_rows_is_bf16_on_the_whole() -> None:
    network = edsr.build(Task(2, 2, (2, 2)), width=16, blocks=2)
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1)
    backend = TorchBackend(network, precision="bf16")
    whole = torch.from_numpy(backend.run(IMAGE.numpy()))
    assert torch.equal(by_rows(backend, IMAGE, 2, [12, 25]), whole)
