"""The processes that train together: one, or as many as `accelerate launch` started."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from geomedsr.errors import RecipeError

__all__ = ["Team"]

Item = TypeVar("Item")


class Team:
    """Each process has a share of a batch; gradients, figures and decisions are those of all.

    The union of the shares is the batch that one process would draw, so the number of processes changes the result by
    rounding alone. A loss that learns averages its own gradients.

    Raises:
        RecipeError: there is no such device.
    """

    def __init__(self, device: str) -> None:
        if device not in ("auto", "cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
            raise RecipeError(f"There is no device '{device}' to train on here; choose cpu.")
        # The precision is the loop's business: accelerate keeps one for the life of the process.
        self.accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")
        self.device: torch.device = self.accelerator.device
        self.size: int = self.accelerator.num_processes
        self.rank: int = self.accelerator.process_index
        self.leads: bool = self.accelerator.is_main_process

    def prepared(self, network: nn.Module) -> nn.Module:
        """The network with its gradients averaged over the processes."""
        prepared: nn.Module = self.accelerator.prepare_model(network)
        return prepared

    def share(self, batch: Tensor) -> Tensor:
        """The part of a batch that is this process' own."""
        return batch.chunk(self.size)[self.rank] if self.size > 1 else batch

    def together(self, network: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        """Where the gradients of a part of a batch are made; those of the `last` one are averaged, with all before."""
        apart: AbstractContextManager[None] = nullcontext() if last else self.accelerator.no_sync(network)
        return apart

    def mean(self, figures: Tensor) -> Tensor:
        """The mean over the processes; not finite where one is not."""
        if self.size == 1:
            return figures
        mean: Tensor = self.accelerator.reduce(figures, "mean")
        return mean

    def mine(self, items: Sequence[Item]) -> list[tuple[int, Item]]:
        """Every so-manyth item, with its number."""
        return list(enumerate(items))[self.rank :: self.size]

    def collected(self, found: list[tuple[int, Item]]) -> list[Item]:
        """The items of all processes in the order of their numbers."""
        return [item for _, item in sorted(gather_object(found), key=lambda pair: pair[0])]

    def wait(self) -> None:
        """Until all processes are here."""
        self.accelerator.wait_for_everyone()
