"""Training, from top to bottom: batches by step, one optimiser, an average of the weights, the best one kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from geomedsr.data.augment import Augment
from geomedsr.data.pairs import Pairs, PairSampler
from geomedsr.data.resident import ResidentPairs, fits
from geomedsr.data.sampling import PatchSampler, Subject
from geomedsr.degradations._degradation import Degradation
from geomedsr.errors import RecipeError
from geomedsr.model import Model, build_degradation
from geomedsr.networks._network import Network
from geomedsr.recipe import Recipe
from geomedsr.training import precision, validation
from geomedsr.training.card import card
from geomedsr.training.graph import Graph
from geomedsr.training.ledger import Ledger
from geomedsr.training.log import Log
from geomedsr.training.loggers import check_loggers, open_loggers
from geomedsr.training.pictures import save_picture
from geomedsr.training.state import State
from geomedsr.training.step import Step
from geomedsr.training.team import Team
from geomedsr.training.validation import Score

__all__ = ["Speed", "Subjects", "train"]

Speed = Literal["auto", "eager"]
_VALIDATION_PLANES, _TEST_PLANES = 12, 48


@dataclass(frozen=True)
class Subjects:
    """The opened images of each part of the split."""

    train: Sequence[Subject]
    validate: Sequence[Subject]
    test: Sequence[Subject]


@dataclass(frozen=True)
class _How:
    """How steps are computed, which changes their rounding and their pace."""

    bf16: bool
    speed: Speed


def train(
    recipe: Recipe,
    subjects: Subjects,
    folder: Path,
    *,
    resume: bool = False,
    finish: bool = False,
    device: str = "cpu",
    quiet: bool = False,
    speed: Speed = "auto",
) -> Model:
    """Trains, writes the model folder with its card, and gives the model.

    The batch of a step depends on the seed and the step alone, so a resumed run ends with the same bits as one that
    was never stopped (CPU, same number of threads). Under `accelerate launch` each process takes its share of a batch
    that has `sampling.batch` patches for each of them. With the speed `auto` one GPU plays each step as a recorded
    graph, where it can be recorded; with `eager` it never does. With `finish` no step is made any more: the checkpoint
    that is resumed from is judged and becomes the model.

    Raises:
        RecipeError: the recipe and the images do not fit, or a checkpoint is of another recipe.
        FailedError: the loss was not finite ten times in a row.
    """
    degradation, team = build_degradation(recipe), Team(device)
    pairs = _pairs(recipe, subjects.train, degradation, team)
    check_loggers(recipe)
    with torch.random.fork_rng(devices=[]):
        state = State(recipe, team.device)
        _check_patch(recipe, state.network)
        validation.check_sizes([*subjects.validate, *subjects.test], state.network)
        if resume:
            state.restore(folder)
        folder.mkdir(parents=True, exist_ok=True)
        team.wait()
        bf16, said = _precision(recipe, pairs, team)
        loggers = open_loggers(recipe, folder) if team.leads else []
        with Log(folder if team.leads else None, state.total, state.progress.step, quiet, loggers) as log:
            if said:
                log.say(said)
            if finish:
                _judge(state, subjects, degradation, team, folder, log)
            else:
                _train(state, subjects, degradation, pairs, team, folder, log, _How(bf16, speed))
        return _finish(state, subjects, degradation, team, folder, bf16=bf16)


def _train(
    state: State,
    subjects: Subjects,
    degradation: Degradation,
    pairs: Pairs,
    team: Team,
    folder: Path,
    log: Log,
    how: _How,
) -> None:
    """All the steps of all the stages that are left."""
    recipe, network = state.recipe, team.prepared(state.network)
    if recipe.compile:
        network = torch.compile(network)  # type: ignore[assignment]
    while True:
        stage, schedule = state.stage, state.stage.schedule
        take, ledger = _step(Step(state, network, team, bf16=how.bf16), how.speed, log), Ledger(state, log)
        for step, (lr, hr) in _batches(pairs, team, state.progress.step + 1, state.last):
            rate = state.begin_step(step)
            ledger.add(step, rate, *take(lr, hr), hr)
            is_judged = subjects.validate and (step % schedule.validate_every == 0 or step == state.last)
            is_saved = step % schedule.checkpoint_every == 0 or step == state.last
            if is_judged or is_saved:
                ledger.settle()
            if is_judged:
                _judge(state, subjects, degradation, team, folder, log)
            if is_saved and team.leads:
                state.save(folder)
            if state.progress.ended:
                log.say(f"No better {stage.keep} in {schedule.patience} validations: the stage ends at step {step}.")
                break
        if not state.has_more:
            return
        state.next_stage(_told(state, subjects, degradation, team))
        log.say(f"Stage {state.progress.stage + 1} of {len(recipe.stages)}: {_losses(state)}.")


def _judge(state: State, subjects: Subjects, degradation: Degradation, team: Team, folder: Path, log: Log) -> None:
    """Scores the average's weights on the validation images, where there are such, and keeps them if they are best."""
    if not subjects.validate:
        return
    found = _scores(state.average.network, subjects.validate, degradation, _VALIDATION_PLANES, state.recipe, team)
    picture = _picture(state, subjects, degradation, folder) if team.leads else None
    log.score(state.progress.step, validation.mean(found), picture)
    state.judge(validation.mean(found))


def _step(step: Step, speed: Speed, log: Log) -> Step | Graph:
    """The step as the device takes it best: on one GPU a graph, unless a loss learns, which happens between steps."""
    team = step.team
    can = team.device.type == "cuda" and team.size == 1 and not step.state.objective.learns
    return Graph(step, log.say) if can and speed != "eager" else step


def _told(state: State, subjects: Subjects, degradation: Degradation, team: Team) -> dict[str, Any]:
    """What is remembered of a stage that is over: how its weights score where the model will be judged."""
    judged = subjects.test or subjects.validate
    found = _scores(state.chosen(), judged, degradation, _TEST_PLANES, state.recipe, team)
    scores = validation.mean(found) if found else {}
    return {"steps": state.progress.step - state.progress.began, "chosen_step": state.kept_step, "scores": scores}


def _finish(
    state: State, subjects: Subjects, degradation: Degradation, team: Team, folder: Path, *, bf16: bool
) -> Model:
    """Scores the test images (else the validation images) once, and writes the model folder."""
    recipe, network, progress = state.recipe, state.chosen().for_inference().eval(), state.progress
    judged, part = (subjects.test, "test") if subjects.test else (subjects.validate, "validate")
    found = _scores(network, judged, degradation, _TEST_PLANES, recipe, team)
    scores: dict[str, Any] = {}
    if found:
        scores = {"on": part, **validation.mean(found), "each": [asdict(one) for one in found]}
    training = {
        "steps": progress.step,
        **({"planned_steps": state.total} if progress.step < state.last or state.has_more else {}),
        "chosen_step": state.kept_step,
        "skipped_steps": progress.skipped,
        "precision": "bf16" if bf16 else "float32",
        "minutes": round(state.seconds / 60, 1),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": team.device.type,
        **({"machine": torch.cuda.get_device_name(team.device)} if team.device.type == "cuda" else {}),
        "processes": team.size,
        "images": {"train": len(subjects.train), "validate": len(subjects.validate), "test": len(subjects.test)},
        "stages": progress.stages,
    }
    model = Model(recipe.name, network.cpu(), recipe, scores, training)
    if team.leads:
        model.save(folder, card(model))
    team.wait()
    return model


def _scores(
    network: Network, subjects: Sequence[Subject], degradation: Degradation, planes: int, recipe: Recipe, team: Team
) -> list[Score]:
    """The scores of all images, each process having scored its share of them."""
    mine = team.mine(subjects)
    # Looked at where a stage or the run ends alone: it takes longer than the other scores.
    encoder = validation.encoder_of(recipe) if planes == _TEST_PLANES else None
    found = validation.score(
        network, [subject for _, subject in mine], degradation, planes, recipe.seed, encoder=encoder
    )
    return team.collected([(number, score) for (number, _), score in zip(mine, found, strict=True)])


def _picture(state: State, subjects: Subjects, degradation: Degradation, folder: Path) -> Path:
    path = folder / "images" / f"step_{state.progress.step:06d}.png"
    save_picture(path, state.average.network, subjects.validate, degradation, state.recipe.seed)
    return path


def _losses(state: State) -> str:
    return " + ".join(f"{part.weight:g} {part.name}" for part in state.stage.losses)


def _batches(pairs: Pairs, team: Team, first: int, last: int) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """The batches of the steps `first` to `last`; the next one is drawn while the caller works on this one."""

    def draw(step: int) -> tuple[Tensor, Tensor]:
        lr, hr = pairs.batch(step)
        layout = torch.channels_last if lr.ndim == 4 else torch.channels_last_3d
        return team.share(lr).to(team.device, memory_format=layout), team.share(hr).to(team.device)

    if isinstance(pairs, ResidentPairs) and team.device.type == "cuda":
        # The device itself draws, after what it has to do; a second thread would only take turns with this one.
        yield from ((step, draw(step)) for step in range(first, last + 1))
        return
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(draw, first) if first <= last else None
        for step in range(first, last + 1):
            assert coming is not None
            batch = coming.result()
            if step < last:
                coming = pool.submit(draw, step + 1)
            yield step, batch


def _pairs(recipe: Recipe, subjects: Sequence[Subject], degradation: Degradation, team: Team) -> Pairs:
    channels = {len(subject.source.spec.channels) for subject in subjects}
    if channels - {len(recipe.channels)}:
        found = ", ".join(f"{s.name}: {len(s.source.spec.channels)}" for s in subjects)
        raise RecipeError(f"The recipe has {len(recipe.channels)} channels; the images have others ({found}).")
    sampling = recipe.sampling
    # A degradation that looks at whole axes gets them where an image has two; a volume would cost too much.
    whole = degradation.reach is None and recipe.task.ndim == 2
    margin = None if whole else (sampling.margin if degradation.reach is None else degradation.reach)
    patches = PatchSampler(
        subjects,
        sampling.patch,
        recipe.factor,
        margin,
        sampling.contrast,
        candidates=sampling.candidates,
        inside=sampling.inside,
    )
    augment = Augment(recipe.factor, sampling.flips, sampling.turns, sampling.gain, sampling.offset)
    batch = sampling.batch * team.size
    on_gpu = team.device.type == "cuda" and fits(patches.subjects, team.device)
    if on_gpu if sampling.resident is None else sampling.resident:
        return ResidentPairs(patches, degradation, augment, batch, recipe.seed, team.device)
    return PairSampler(patches, degradation, augment, batch, recipe.seed)


def _precision(recipe: Recipe, pairs: Pairs, team: Team) -> tuple[bool, str]:
    """Whether to train in bf16, and a sentence where that was checked."""
    if recipe.precision == "float32":
        return False, ""
    lr, hr = pairs.batch(1)  # the whole batch, so that all processes decide alike
    return precision.choose(recipe, lr[:2], hr[:2], team.device)


def _check_patch(recipe: Recipe, network: Network) -> None:
    coarse = [n // f for n, f in zip(recipe.sampling.patch, recipe.factor, strict=True)]
    if any(n % network.multiple_of for n in coarse):
        raise RecipeError(
            f"sampling.patch: {list(recipe.sampling.patch)} is {coarse} for the network {recipe.network.name}, which "
            f"takes multiples of {network.multiple_of}."
        )
