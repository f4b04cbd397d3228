"""A training step as one CUDA graph: recorded once, then played for each batch without the host in between."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from geomedsr.training.step import Step

__all__ = ["Graph"]

_FIRST = 3
"""Steps that run as they are, so that all that is made at the first use is there when the graph is recorded."""


class Graph:
    """A step that is played back; where it cannot be recorded, the step itself, with a sentence on why.

    A graph holds places in memory, not values: a batch is copied to where the recorded one lay, and the learning rate
    and the average's share are numbers on the device.
    """

    def __init__(self, step: Step, say: Callable[[str], None]) -> None:
        self.step, self.say = step, say
        self.done, self.refused = 0, False
        self.played: torch.cuda.CUDAGraph | None = None

    def __call__(self, lr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
        """What the step gives."""
        self.done += 1
        if self.refused:
            return self.step(lr, hr)
        if self.done <= _FIRST:
            return self._aside(lr, hr)
        if self.played is None and not self._record(lr, hr):
            return self.step(lr, hr)
        assert self.played is not None
        self.lr.copy_(lr)
        self.hr.copy_(hr)
        self.played.replay()
        figures, srs = self.given
        return figures.clone(), srs

    def _aside(self, lr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
        """The step on a stream of its own, as recording asks of the steps before it."""
        stream, main = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(main)
        with torch.cuda.stream(stream):
            found = self.step(lr, hr)
        main.wait_stream(stream)
        return found

    def _record(self, lr: Tensor, hr: Tensor) -> bool:
        """Whether the step could be recorded; recording does not take it."""
        self.lr, self.hr, graph = lr.clone(), hr.clone(), torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        try:
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self.given = self.step(self.lr, self.hr)
        except Exception as error:  # noqa: BLE001 - whatever a network, a loss or the driver refuses with
            torch.cuda.synchronize()
            self.refused = True
            self.say(f"This step cannot be recorded as a CUDA graph ({_first_line(error)}); it runs as it is.")
            return False
        self.played = graph
        return True


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
