from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from geomedsr.grid import Factor
from geomedsr.inference.tail import JoinedTail, join_tail
from geomedsr.networks import edsr, rrdb
from geomedsr.networks._network import Network
from geomedsr.task import Task


def random(network: Network) -> Network:
    """The network with weights that matter in every layer."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1)
    return network.eval()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [(2, 2), (3, 3), (4, 2), (1, 3), (2, 2, 2), (1, 1, 4), (2, 1, 3)])
def test_the_joined_end_gives_what_the_layers_gave(factor: Factor, channels: int) -> None:
    network = random(edsr.build(Task(len(factor), channels, factor), width=12, blocks=1))
    joined = join_tail(copy.deepcopy(network))
    for lengths in ((11, 9, 10), (3, 3, 3), (2, 5, 1)):
        x = torch.randn(2, channels, *lengths[: len(factor)])
        with torch.inference_mode():
            torch.testing.assert_close(joined(x), network(x), atol=2e-5, rtol=1e-5)  # other orders of one sum


def test_edsr_has_a_joined_end_and_takes_less_memory_for_it() -> None:
    from geomedsr.inference.footprint import footprint

    network = edsr.build(Task(3, 1, (2, 2, 2)), width=16, blocks=1)
    joined = join_tail(copy.deepcopy(network))
    assert isinstance(joined.tail, JoinedTail)
    assert footprint(joined, 1, 3).peak < footprint(network, 1, 3).peak / 2


def test_what_would_cost_more_stays_apart() -> None:
    network = join_tail(edsr.build(Task(2, 10, (2, 2)), width=4, blocks=1))
    assert not isinstance(network.tail, JoinedTail)


class Between(Network):
    """Has an activation between upsampler and tail, where nobody can see it from outside."""

    reach = (8, 8)

    def __init__(self) -> None:
        super().__init__(Task(2, 1, (2, 2)))
        inner = random(edsr.build(self.task, width=12, blocks=1))
        self.head, self.upsampler, self.tail = inner.head, inner.upsampler, inner.tail

    def forward(self, x: Tensor) -> Tensor:
        finer: Tensor = self.tail(torch.relu(self.upsampler(self.head(x))))
        return finer


def test_a_network_with_something_in_between_stays_as_it_is() -> None:
    assert not isinstance(join_tail(Between()).tail, JoinedTail)
    assert not isinstance(join_tail(rrdb.build(Task(2, 1, (2, 2)), width=8, blocks=1)).tail, JoinedTail)
