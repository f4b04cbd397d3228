"""The moving average of the weights: what is shipped is smoother than what is trained."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from geomedsr.networks._network import Network

__all__ = ["Average"]


class Average:
    """An exponential moving average of a network's weights, with a warm-up so that it forgets the start.

    Reference: Polyak and Juditsky 1992, DOI 10.1137/0330046
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.network = deepcopy(network)
        self.network.eval().requires_grad_(False)
        self.decay = decay

    def share(self, step: int) -> float:
        """How much of the weights the average takes after a step (counted from 1)."""
        return 1 - min(self.decay, step / (step + 10))

    @torch.no_grad()
    def update(self, network: nn.Module, share: Tensor) -> None:
        """Takes a share of the weights; one of 0 changes nothing, to the bit.

        Shape: share is a number on the weights' device, so that nobody waits for it
        """
        ours: list[Tensor] = [*self.network.parameters()]
        theirs: list[Tensor] = [*network.parameters()]
        # A few calls for all weights: on a GPU hundreds of small kernels would cost more than the average itself.
        change = list(torch._foreach_sub(theirs, ours))
        torch._foreach_mul_(change, share)
        torch._foreach_add_(ours, change)
        for average, value in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(torch.where(share > 0, _followed(average, value, share), average))


def _followed(average: Tensor, value: Tensor, share: Tensor) -> Tensor:
    # What is no real number is a counter.
    return average.lerp(value, share.to(value)) if average.is_floating_point() else value
