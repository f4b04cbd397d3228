"""What a stage minimises: the weighted sum of its losses, and what the network asks for besides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from geomedsr import registry
from geomedsr.errors import RecipeError
from geomedsr.grid import Shape
from geomedsr.losses._loss import Loss
from geomedsr.networks._network import Network
from geomedsr.recipe import LossPart, Recipe, Stage, built

__all__ = ["Objective"]


class Objective:
    """The losses of a stage. `names` are those of the figures that a call gives, in its order."""

    def __init__(self, recipe: Recipe, stage: Stage, network: Network, device: torch.device) -> None:
        self.network, self.auxiliary = network, recipe.auxiliary
        self.losses = [loss_of(part).to(device) for part in stage.losses]
        self.weights = [part.weight for part in stage.losses]
        self.names = _unique([part.name for part in stage.losses])

    def __call__(self, sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
        """The sum, and each loss' part in it.

        Shape: scalar, and (losses,); one more than `names` where the network has a loss of its own
        """
        parts = [weight * loss(sr, hr) for weight, loss in zip(self.weights, self.losses, strict=True)]
        own = self.network.auxiliary_loss(hr) if self.auxiliary > 0 and self.network.training else None
        if own is not None:
            parts.append(self.auxiliary * own)
        figures = torch.stack(parts)
        return figures.sum(), figures.detach()

    def told(self, figures: list[float]) -> dict[str, float]:
        """The figures by name, without their weights."""
        named = dict(zip([*self.names, "auxiliary"], figures, strict=False))
        weights = dict(zip([*self.names, "auxiliary"], [*self.weights, self.auxiliary], strict=True))
        return {name: figure / weights[name] for name, figure in named.items()}

    def learn(self, sr: Tensor, hr: Tensor) -> dict[str, float]:
        """One step of each loss that learns, and their figures."""
        return {
            f"{name}_{key}": figure
            for name, loss in zip(self.names, self.losses, strict=True)
            for key, figure in loss.learn(sr, hr).items()
        }

    def check(self, patch: Shape, channels: int, device: torch.device) -> None:
        """Compares one patch with itself, so that a loss that cannot is told of before anything starts.

        Raises:
            RecipeError: one cannot.
        """
        hr = torch.rand((1, channels, *patch), generator=torch.Generator().manual_seed(0)).to(device)
        for name, loss in zip(self.names, self.losses, strict=True):
            try:
                loss(hr, hr)
            except (ValueError, RuntimeError) as error:
                said = f"The loss {name} cannot compare patches of {list(patch)} voxels, {channels} channels: {error}."
                raise RecipeError(said.replace("..", ".")) from error

    @property
    def learns(self) -> bool:
        """Whether a loss learns."""
        return any(loss.learns for loss in self.losses)

    def state(self) -> dict[str, Any]:
        """What the losses have learnt."""
        return {name: loss.learning_state() for name, loss in zip(self.names, self.losses, strict=True)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state` gave."""
        for name, loss in zip(self.names, self.losses, strict=True):
            loss.load_learning_state(state.get(name, {}))


def loss_of(part: LossPart) -> Loss:
    """The loss of a recipe.

    Raises:
        RecipeError: it takes no such setting.
    """
    loss: Loss = built("loss", part, registry.load("losses", part.name).build)
    return loss


def _unique(names: list[str]) -> list[str]:
    """The names, numbered where one comes again."""
    return [name if names.index(name) == i else f"{name}_{i + 1}" for i, name in enumerate(names)]
