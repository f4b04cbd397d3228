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

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Takes a share of the weights after a step (counted from 1)."""
        decay = min(self.decay, step / (step + 10))
        # One call for all weights: on a GPU hundreds of small kernels would cost more than the average itself.
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), 1 - decay)
        for average, value in zip(self.network.buffers(), network.buffers(), strict=True):
            _follow(average, value, decay)


def _follow(average: Tensor, value: Tensor, decay: float) -> None:
    if average.is_floating_point():
        average.lerp_(value, 1 - decay)
    else:
        average.copy_(value)  # a counter
