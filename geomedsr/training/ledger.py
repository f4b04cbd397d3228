"""What became of steps: told to the log and counted, a few steps later where a GPU works on what came after them."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import torch
from torch import Tensor

from geomedsr.errors import FailedError
from geomedsr.training.log import Log
from geomedsr.training.state import State

__all__ = ["Ledger"]

_NAN_LIMIT = 10
_LAG = 10
"""How many steps a GPU may be ahead of what is known of them: it never waits for a number to arrive at the host."""


@dataclass(frozen=True)
class _Entry:
    step: int
    rate: float
    figures: Tensor
    arrived: torch.cuda.Event | None

    def values(self) -> list[float]:
        if self.arrived is not None:
            self.arrived.synchronize()
        found: list[float] = self.figures.tolist()
        return found


class Ledger:
    """The steps of a stage that are not yet told of.

    What a loss learns from a step depends on what became of it, so where one learns, nothing is put off.
    """

    def __init__(self, state: State, log: Log) -> None:
        self.state, self.log = state, log
        self.lag = _LAG if state.device.type == "cuda" and not state.objective.learns else 0
        self.open: deque[_Entry] = deque()

    def add(self, step: int, rate: float, figures: Tensor, srs: Tensor, hr: Tensor) -> None:
        """A step was sent to the device: its figures, and what losses that learn do so from.

        Raises:
            FailedError: too many steps in a row were lost.
        """
        arrived = None
        if self.lag:
            figures, arrived = figures.to("cpu", non_blocking=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
        self.open.append(_Entry(step, rate, figures, arrived))
        while len(self.open) > self.lag:
            self._settle(self.open.popleft(), srs, hr)

    def settle(self) -> None:
        """Tells of all steps; what is counted is then true."""
        while self.open:
            self._settle(self.open.popleft())

    def _settle(self, entry: _Entry, srs: Tensor | None = None, hr: Tensor | None = None) -> None:
        *values, length = entry.values()
        finite = math.isfinite(sum(values)) and math.isfinite(length)
        self.state.end_step(entry.step, finite)
        told = self.state.objective.told(values)
        if not finite:
            self._lose(told)
        elif self.state.objective.learns:
            assert srs is not None
            assert hr is not None
            told |= self.state.objective.learn(srs, hr)
        self.log.advance(entry.step, entry.rate, sum(values), told if len(told) > 1 else {})

    def _lose(self, told: dict[str, float]) -> None:
        """Tells whose loss was not finite; ends the run when there were too many in a row."""
        progress = self.state.progress
        who = ", ".join(name for name, figure in told.items() if not math.isfinite(figure)) or "the gradient"
        self.log.say(f"step {progress.step}: not finite: {who}; the step is skipped ({progress.lost} in a row).")
        if progress.lost >= _NAN_LIMIT:
            raise FailedError(
                f"The loss was not finite {progress.lost} times in a row at step {progress.step} (not finite: {who}): "
                "lower optimizer.rate, or the weight of that loss."
            )
