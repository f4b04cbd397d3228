"""The moving average of the weights: what is shipped is smoother than what is trained."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

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
        mine, new = list(self.network.state_dict().values()), list(network.state_dict().values())
        for average, weight in zip(mine, new, strict=True):
            average.lerp_(weight.to(average), 1 - decay)
