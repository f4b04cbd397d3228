"""What a training changes as it goes: weights, their average, the optimiser, what losses learnt, the best so far."""

from __future__ import annotations

import time
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from geomedsr.model import build_network, start_weights
from geomedsr.networks._network import Network
from geomedsr.recipe import Recipe, Stage
from geomedsr.training import checkpoint
from geomedsr.training.ema import Average
from geomedsr.training.objective import Objective

__all__ = ["State"]


class State:
    """The changing part of a run; a checkpoint is this, written down.

    Raises:
        RecipeError: the network or a loss cannot be built.
        ModelError: the weights to start from are not this network's.
    """

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.network = build_network(recipe)
        if recipe.start is not None:
            self.network.load_state_dict(start_weights(recipe.start, self.network))
        layout = torch.channels_last if recipe.task.ndim == 2 else torch.channels_last_3d
        self.network.to(device, memory_format=layout).train()  # type: ignore[call-overload]
        for stage in recipe.stages:  # a mistake in any of them is told before the first begins
            Objective(recipe, stage, self.network, device).check(recipe.sampling.patch, recipe.task.channels, device)
        self.progress, self.clock = checkpoint.Progress(), time.monotonic()
        # Numbers that change with the step, where the device reads them: a step that was recorded sees them change.
        self.rate, self.share = torch.zeros((), device=device), torch.zeros((), device=device)
        self._prepare()

    def _prepare(self) -> None:
        """What each stage has anew."""
        self.average = Average(self.network, self.stage.ema)
        self.optimizer = _optimizer(self.stage, self.network, self.rate)
        self.objective = Objective(self.recipe, self.stage, self.network, self.device)
        self.best = _copy(self.average.network)
        self.origin = _copy(self.network) if self.stage.blend < 1 else {}

    @property
    def stage(self) -> Stage:
        """The stage that runs."""
        return self.recipe.stages[self.progress.stage]

    @property
    def has_more(self) -> bool:
        """Whether another stage follows."""
        return self.progress.stage + 1 < len(self.recipe.stages)

    @property
    def last(self) -> int:
        """The last step of the stage that runs, counted from the first of all."""
        return self.progress.step if self.progress.ended else self.progress.began + self.stage.schedule.steps

    @property
    def total(self) -> int:
        """How many steps all stages have, where none ends early."""
        return self.progress.began + sum(stage.schedule.steps for stage in self.recipe.stages[self.progress.stage :])

    @property
    def seconds(self) -> float:
        """How long the training took so far, in all its runs."""
        return time.monotonic() - self.clock

    def next_stage(self, told: Mapping[str, Any]) -> None:
        """Begins the next stage with the weights that this one keeps; `told` is what is remembered of this one."""
        done = self.progress
        self.network.load_state_dict(self.kept())
        self.progress = checkpoint.Progress(
            done.step,
            stage=done.stage + 1,
            began=done.step,
            skipped=done.skipped,
            seconds=done.seconds,
            stages=[*done.stages, dict(told)],
        )
        self._prepare()

    def begin_step(self, step: int) -> float:
        """Sets and gives the learning rate of a step. What anything draws at random depends on the step alone."""
        torch.manual_seed(((self.recipe.seed << 32) + step) % (1 << 63))
        counted = step - self.progress.began
        rate = self.stage.schedule.rate(counted, self.stage.optimizer.rate)
        self.rate.fill_(rate)
        self.share.fill_(self.average.share(counted))
        return rate

    def take(self, *, lost: Tensor) -> None:
        """Moves the weights and their average by the gradients that are there, unless they are `lost`.

        Shape: lost is a truth value on the device; nobody waits for it
        """
        # As GradScaler does it: the fused optimisers look at this number on the device.
        self.optimizer.found_inf = lost.float()  # type: ignore[attr-defined]
        self.optimizer.step()
        self.average.update(self.network, self.share * ~lost)

    def end_step(self, step: int, finite: bool) -> None:
        """Counts a step that was taken, or lost because its loss or its gradient was not finite."""
        self.progress.step = step
        self.progress.lost = 0 if finite else self.progress.lost + 1
        self.progress.skipped += not finite

    def restore(self, folder: Path) -> None:
        """Goes on from the folder's checkpoint, where it has one.

        Raises:
            RecipeError: the checkpoint is broken, or of another recipe.
        """
        found = checkpoint.restore(folder, self.recipe)
        if found is None:
            return
        self.progress, parts = found
        self.clock = time.monotonic() - self.progress.seconds
        self._prepare()
        self.network.load_state_dict(parts["network"])
        self.average.network.load_state_dict(parts["average"])
        _restore(self.optimizer, parts["optimizer"])
        self.objective.load_state(parts.get("losses", {}))
        self.best, self.origin = parts["best"], parts.get("origin", {})

    def save(self, folder: Path) -> None:
        """Writes a checkpoint."""
        self.progress.seconds = self.seconds
        parts: dict[str, Any] = {
            "network": self.network.state_dict(),
            "average": self.average.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "losses": self.objective.state(),
            "best": self.best,
            "origin": self.origin,
        }
        checkpoint.save(folder, self.progress, self.recipe, parts)

    def judge(self, scores: Mapping[str, float]) -> None:
        """Keeps the average's weights when they score higher than any before; ends the stage when none did so long."""
        now, patience = scores["psnr" if self.stage.keep == "last" else self.stage.keep], self.stage.schedule.patience
        self.progress.waited += 1
        if now > self.progress.best:
            self.progress.best, self.progress.best_step, self.progress.waited = now, self.progress.step, 0
            self.best = _copy(self.average.network)
        self.progress.ended = patience is not None and self.progress.waited >= patience

    def kept(self) -> dict[str, Tensor]:
        """The weights that the stage ends with: the best where there was a judge, else the last average, blended with
        those that it began with.
        """
        judged = self.progress.best_step > 0 and self.stage.keep != "last"
        weights = self.best if judged else self.average.network.state_dict()
        if not self.origin:
            return weights
        return {
            name: _between(self.origin[name].to(one.device), one, self.stage.blend) for name, one in weights.items()
        }

    @property
    def kept_step(self) -> int:
        """The step of those weights."""
        judged = self.progress.best_step > 0 and self.stage.keep != "last"
        return self.progress.best_step if judged else self.progress.step

    def chosen(self) -> Network:
        """A network with those weights, on its device."""
        network = deepcopy(self.average.network)
        network.load_state_dict(self.kept())
        return network


def _between(one: Tensor, other: Tensor, share: float) -> Tensor:
    # What is no real number is a counter.
    return one.lerp(other, share) if other.is_floating_point() else other


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def _optimizer(stage: Stage, network: nn.Module, rate: Tensor) -> torch.optim.Optimizer:
    chosen, weights = stage.optimizer, list(network.parameters())
    if chosen.name == "sgd":
        sgd = torch.optim.SGD(weights, rate, momentum=chosen.betas[0], weight_decay=chosen.decay, fused=True)
        for weight in weights:  # so that a first step that is lost leaves nothing undefined
            sgd.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
        return sgd
    kind = torch.optim.AdamW if chosen.name == "adamw" else torch.optim.Adam
    on_gpu = rate.device.type == "cuda"
    return kind(weights, rate, betas=chosen.betas, weight_decay=chosen.decay, fused=True, capturable=on_gpu)


def _restore(optimizer: torch.optim.Optimizer, stored: dict[str, Any]) -> None:
    """Loads what an optimiser remembers; how it works stays as it is on this device."""
    settings = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(stored)
    for group, ours in zip(optimizer.param_groups, settings, strict=True):
        group.update({key: value for key, value in ours.items() if key != "params"})
    for weight, values in optimizer.state.items():
        for key, value in values.items():
            if isinstance(value, Tensor) and value.shape == weight.shape:
                # In the order in memory that the weight has: fused steps go through both side by side.
                values[key] = torch.empty_like(weight, requires_grad=False).copy_(value)
