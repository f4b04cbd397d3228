"""What a training changes as it goes: weights, their average, the optimiser, the best so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geomedsr.model import build_network
from geomedsr.networks._network import Network
from geomedsr.recipe import Recipe
from geomedsr.training import checkpoint
from geomedsr.training.ema import Average

__all__ = ["State"]


class State:
    """The changing part of a run; a checkpoint is this, written down."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.network = build_network(recipe)
        self.average = Average(self.network, recipe.ema)
        self.optimizer = _optimizer(recipe, self.network)
        self.progress = checkpoint.Progress()
        self.best = _copy(self.average.network)

    def restore(self, folder: Path) -> None:
        """Goes on from the folder's checkpoint, where it has one.

        Raises:
            RecipeError: the checkpoint is broken, or of another recipe.
        """
        found = checkpoint.restore(folder, self.recipe.to_json())
        if found is None:
            return
        self.progress, parts = found
        self.network.load_state_dict(parts["network"])
        self.average.network.load_state_dict(parts["average"])
        self.optimizer.load_state_dict(parts["optimizer"])
        self.best = parts["best"]

    def save(self, folder: Path) -> None:
        """Writes a checkpoint."""
        parts: dict[str, Any] = {
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
        }
        checkpoint.save(folder, self.progress, self.recipe.to_json(), parts)

    def judge(self, psnr: float) -> None:
        """Keeps the average's weights when they score higher than any before."""
        if psnr > self.progress.best:
            self.progress.best, self.progress.best_step = psnr, self.progress.step
            self.best = _copy(self.average.network)

    def chosen(self, judged: bool) -> Network:
        """The network that the run ends with: the best one where there was a judge, else the last average."""
        if judged:
            self.average.network.load_state_dict(self.best)
        return self.average.network.cpu().eval()


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _optimizer(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    chosen, weights = recipe.optimizer, network.parameters()
    if chosen.name == "sgd":
        return torch.optim.SGD(weights, chosen.rate, momentum=chosen.betas[0], weight_decay=chosen.decay)
    kind = torch.optim.AdamW if chosen.name == "adamw" else torch.optim.Adam
    return kind(weights, chosen.rate, betas=chosen.betas, weight_decay=chosen.decay)
