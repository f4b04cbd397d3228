"""Training, from top to bottom: batches by step, one optimiser, an average of the weights, the best one kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from geomedsr import registry
from geomedsr.data.augment import Augment
from geomedsr.data.pairs import PairSampler
from geomedsr.data.sampling import PatchSampler, Subject
from geomedsr.degradations._degradation import Degradation
from geomedsr.errors import FailedError, RecipeError
from geomedsr.model import Model
from geomedsr.recipe import LossPart, Recipe, built
from geomedsr.training import validation
from geomedsr.training.card import card
from geomedsr.training.log import Log
from geomedsr.training.state import State

__all__ = ["Subjects", "train"]

_NAN_LIMIT = 10
_VALIDATION_PLANES, _TEST_PLANES = 12, 48


@dataclass(frozen=True)
class Subjects:
    """The opened images of each part of the split."""

    train: Sequence[Subject]
    validate: Sequence[Subject]
    test: Sequence[Subject]


def train(
    recipe: Recipe, subjects: Subjects, folder: Path, *, resume: bool = False, device: str = "cpu", quiet: bool = False
) -> Model:
    """Trains, writes the model folder with its card, and gives the model.

    The batch of a step depends on the seed and the step alone, so a resumed run ends with the same bits as one that
    was never stopped (CPU, same number of threads).

    Raises:
        RecipeError: the recipe and the images do not fit, or a checkpoint is of another recipe.
        FailedError: the loss was not finite ten times in a row.
    """
    began = time.monotonic()
    degradation = built("degradation", recipe.degradation, registry.load("degradations", recipe.degradation.name).build)
    losses = [(part.weight, _loss(part)) for part in recipe.losses]
    pairs = _pairs(recipe, subjects.train, degradation)
    state = State(recipe)
    if resume:
        state.restore(folder)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")
    # Said here rather than to accelerate, which keeps one precision for the life of the process.
    autocast = torch.autocast(accelerator.device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
    layout = torch.channels_last if recipe.task.ndim == 2 else torch.channels_last_3d
    state.network.to(memory_format=layout).train()  # type: ignore[call-overload]
    network, optimizer = accelerator.prepare(state.network, state.optimizer)
    state.average.network.to(accelerator.device)
    schedule, lost = recipe.schedule, 0
    with Log(folder, schedule.steps, state.progress.step, quiet) as log:
        for step, (lr, hr) in _batches(pairs, state.progress.step + 1, schedule.steps):
            rate = _rate(recipe, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with autocast:
                sr = network(lr.to(accelerator.device, memory_format=layout)).float()
            fine = hr.to(accelerator.device)
            loss = torch.stack([weight * fn(sr, fine) for weight, fn in losses]).sum()
            value = loss.item()
            optimizer.zero_grad(set_to_none=True)
            lost = 0 if math.isfinite(value) else lost + 1
            if lost >= _NAN_LIMIT:
                raise FailedError(
                    f"The loss was not finite {lost} times in a row at step {step}: lower optimizer.rate."
                )
            if lost == 0:
                accelerator.backward(loss)
                accelerator.clip_grad_norm_(network.parameters(), recipe.optimizer.clip)
                optimizer.step()
                state.average.update(state.network, step)
            state.progress.step = step
            log.advance(step, value, rate)
            if subjects.validate and (step % schedule.validate_every == 0 or step == schedule.steps):
                found = validation.score(
                    state.average.network, subjects.validate, degradation, _VALIDATION_PLANES, recipe.seed
                )
                log.score(step, validation.mean(found))
                state.judge(validation.mean(found)["psnr"])
            if step % schedule.checkpoint_every == 0 or step == schedule.steps:
                state.save(folder)
    return _finish(state, subjects, degradation, folder, (time.monotonic() - began) / 60)


def _finish(state: State, subjects: Subjects, degradation: Degradation, folder: Path, minutes: float) -> Model:
    """Scores the test images (else the validation images) once, and writes the model folder."""
    recipe, network = state.recipe, state.chosen(judged=bool(subjects.validate))
    judged, part = (subjects.test, "test") if subjects.test else (subjects.validate, "validate")
    found = validation.score(network, judged, degradation, _TEST_PLANES, recipe.seed)
    scores: dict[str, Any] = {}
    if found:
        scores = {"on": part, **validation.mean(found), "each": [asdict(one) for one in found]}
    training = {
        "steps": state.progress.step,
        "chosen_step": state.progress.best_step or state.progress.step,
        "minutes": round(minutes, 1),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "images": {"train": len(subjects.train), "validate": len(subjects.validate), "test": len(subjects.test)},
    }
    model = Model(recipe.name, network, recipe, scores, training)
    model.save(folder, card(model))
    return model


def _batches(pairs: PairSampler, first: int, last: int) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """The batches of the steps `first` to `last`; the next one is drawn while the caller works on this one."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(pairs.batch, first) if first <= last else None
        for step in range(first, last + 1):
            assert coming is not None
            batch = coming.result()
            if step < last:
                coming = pool.submit(pairs.batch, step + 1)
            yield step, batch


def _pairs(recipe: Recipe, subjects: Sequence[Subject], degradation: Degradation) -> PairSampler:
    channels = {len(subject.source.spec.channels) for subject in subjects}
    if channels - {len(recipe.channels)}:
        found = ", ".join(f"{s.name}: {len(s.source.spec.channels)}" for s in subjects)
        raise RecipeError(f"The recipe has {len(recipe.channels)} channels; the images have others ({found}).")
    sampling = recipe.sampling
    # A degradation that looks at whole axes gets them where an image has two; a volume would cost too much.
    whole = degradation.reach is None and recipe.task.ndim == 2
    margin = None if whole else (sampling.margin if degradation.reach is None else degradation.reach)
    patches = PatchSampler(subjects, sampling.patch, recipe.factor, margin, sampling.contrast)
    augment = Augment(recipe.factor, sampling.flips, sampling.turns, sampling.gain)
    return PairSampler(patches, degradation, augment, sampling.batch, recipe.seed)


def _loss(part: LossPart) -> Callable[[Tensor, Tensor], Tensor]:
    loss: nn.Module = built("loss", part, registry.load("losses", part.name).build)
    return loss


def _rate(recipe: Recipe, step: int) -> float:
    """The learning rate of a step, counted from 1."""
    schedule, rate = recipe.schedule, recipe.optimizer.rate
    if step <= schedule.warmup:
        return rate * step / schedule.warmup
    if schedule.shape == "constant":
        return rate
    way = (step - schedule.warmup) / max(schedule.steps - schedule.warmup, 1)
    return rate * (schedule.final + (1 - schedule.final) * 0.5 * (1 + math.cos(math.pi * way)))
