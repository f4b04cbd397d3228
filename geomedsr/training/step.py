"""A step of a training on tensors alone: nothing in it waits for the device, so a GPU can run it as one graph."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geomedsr.training.state import State
from geomedsr.training.team import Team

__all__ = ["Step"]


class Step:
    """Forward, loss, backward, clipping, the optimiser and the average of the weights, of the stage that runs.

    Whether a step is lost (its loss or its gradient is not finite) is decided on the device, too: the optimiser and the
    average then leave everything as it is.
    """

    def __init__(self, state: State, network: nn.Module, team: Team, *, bf16: bool) -> None:
        self.state, self.network, self.team = state, network, team
        self.parts, self.clip = state.stage.optimizer.parts, state.stage.optimizer.clip
        self.autocast = torch.autocast(team.device.type, torch.bfloat16, enabled=bf16)

    def __call__(self, lr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
        """Learns from a batch; gives each loss' part and then the gradient's length, and the network's images.

        Shape: (B, C, *S) and (B, C, *(S * factor)) to (losses + 1,) and (B, C, *(S * factor))
        """
        self.state.optimizer.zero_grad(set_to_none=True)
        # What a layer counts by itself in the forward pass, such as a norm's means, belongs to the step, too.
        kept = [one.clone() for one in self.network.buffers()]
        done = [
            self._part(*pair, last=number == self.parts)
            for number, pair in enumerate(zip(lr.chunk(self.parts), hr.chunk(self.parts), strict=True), start=1)
        ]
        srs, each = zip(*done, strict=True)
        figures = self.team.mean(torch.stack(each).mean(0) if self.parts > 1 else each[0])
        length = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.clip)
        found = torch.cat([figures, length.reshape(1)])
        lost = ~found.sum().isfinite()
        with torch.no_grad():
            for now, before in zip(self.network.buffers(), kept, strict=True):
                now.copy_(torch.where(lost, before, now))
        self.state.take(lost=lost)
        return found, torch.cat(srs) if self.parts > 1 else srs[0]

    def _part(self, lr: Tensor, hr: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
        with self.team.together(self.network, last=last):
            with self.autocast:
                sr = self.network(lr)
            sr = sr.float()
            loss, figures = self.state.objective(sr, hr)
            torch.autograd.backward(loss / self.parts)
        return sr.detach(), figures
