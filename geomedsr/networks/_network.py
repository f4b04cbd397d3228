"""What every network is: a module with a task, a reach and settings that JSON can hold."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from geomedsr.grid import Shape
from geomedsr.task import Task

__all__ = ["Network"]


class Network(nn.Module):
    """(B, C, *S) float to (B, C, *(S * factor)).

    `reach` is how far the network looks, in input voxels on each axis: an output voxel depends on the input voxels at
    most that far from the one it lies in, and on nothing else (None: it looks everywhere). The network's own padding
    at the border of its input is part of the network. `multiple_of` divides every input axis. `settings` rebuild it.
    """

    task: Task
    settings: dict[str, Any]
    multiple_of: int = 1
    reach: Shape | None

    def __init__(self, task: Task, **settings: Any) -> None:  # noqa: ANN401 - JSON values
        super().__init__()
        below = next((key for key, value in settings.items() if isinstance(value, int | float) and value < 0), None)
        if below is not None:
            raise ValueError(f"{below} is at least 0, not {settings[below]}")
        self.task = task
        self.settings = settings

    def forward(self, x: Tensor) -> Tensor:
        """The finer image.

        Shape: (B, C, *S) to (B, C, *(S * factor))
        """
        raise TypeError(f"{type(self).__name__} has no forward pass.")

    def auxiliary_loss(self, hr: Tensor) -> Tensor | None:
        """A loss of the network's own on its last forward pass in training, with the true fine images (most: None)."""
        del hr
        return None

    def for_inference(self) -> Network:
        """The network that is shipped: itself, or a smaller one that gives the same."""
        return self

    @property
    def parameter_count(self) -> int:
        """How many numbers were, or will be, learnt."""
        return sum(parameter.numel() for parameter in self.parameters())
