"""Claim: the training loop costs little beside the training: at least 0.90 of the bare forward, backward and step.

Trains by a recipe on the sample data. After every few steps of the loop it takes as many bare steps of the same network
on fixed synthetic tensors, so both meet the same machine; the first step after each change is not counted. The bare
step knows no data, no schedule, no average, no clipping, no log. Both are told by the clock and by the processor time
of all threads: other work on the machine disturbs the first most, and the second holds what the clock hides, the
drawing of the next batch beside the step.

The recipe is the pipeline's with a network, a batch and patches of moderate size (`MODERATE`): the size of the first
model that was trained by it, so that the figure means the same from version to version, and a step takes a fraction of
a second.

    python -m benchmarks.training [--pipeline mri_t1_x2] [--rounds 8] [--set KEY=VALUE ...]
    python -m benchmarks.training --device cuda [--out FILE.json]       (see training_gpu.py)
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch.nn import functional

from benchmarks import training_gpu
from geomedsr.model import build_network
from geomedsr.recipe import Recipe, read_recipe
from geomedsr.run.training import open_subjects
from geomedsr.training import loop
from geomedsr.training.log import Log

ROOT = Path(__file__).parent.parent
SAMPLES = {"mri": "mri_t1.nii.gz", "optical": "scene.tif"}
MODERATE = {
    "mri_t1_x2": {
        "network.width": "48",
        "network.blocks": "8",
        "sampling.batch": "16",
        "sampling.patch": "[96, 96]",
    },
}
"""What of a pipeline is changed for the measurement, before what `--set` says."""

ROUNDS, STEPS = 8, 6


def main() -> None:
    """Prints what a step of both takes, by either clock, and their ratio as the median over rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", default="mri_t1_x2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of six steps of each")
    parser.add_argument("--set", action="append", default=[], dest="changes", metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, help="where a GPU's rows go, as JSON")
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        training_gpu.measure(arguments.out, dict(change.split("=", 1) for change in arguments.changes))
        return
    path = ROOT / "pipelines" / f"{arguments.pipeline}.yaml"
    changes = MODERATE.get(arguments.pipeline, {}) | dict(change.split("=", 1) for change in arguments.changes)
    recipe = prepared(path, changes, arguments.rounds)
    step = bare_step(recipe, torch.device(arguments.device))
    watch = Stopwatch(step, arguments.device)
    # The loop opens its log by this name; each step that is told to it is a step done.
    loop.Log = watch.log  # type: ignore[attr-defined, assignment]
    with tempfile.TemporaryDirectory() as scratch:
        subjects = open_subjects(recipe, ROOT / "sample_data")
        loop.train(recipe, subjects, Path(scratch) / "m", device=arguments.device, quiet=True)
    watch.report(recipe)


def prepared(path: Path, changes: Mapping[str, str], rounds: int) -> Recipe:
    """The pipeline on the sample data, for as many steps as are timed, and a round more to warm up."""
    first = read_recipe(path)
    sample = SAMPLES[first.modality]
    bands = list(first.channels) if len(first.channels) > 1 else "null"
    steps = (rounds + 1) * STEPS
    ours = {
        "data": f"{{train: [{{files: {sample}, bands: {bands}}}]}}",
        "schedule": f"{{steps: {steps}, warmup: 1, checkpoint_every: {steps}}}",
        "then": "[]",
    }
    return read_recipe(path, {**ours, **changes})


def bare_step(recipe: Recipe, device: torch.device) -> Callable[[], None]:
    """One forward, backward and step of the recipe's network on tensors that are already there."""
    layout = torch.channels_last if recipe.task.ndim == 2 else torch.channels_last_3d
    network = build_network(recipe).to(device, memory_format=layout).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), recipe.optimizer.rate)
    shape = (recipe.sampling.batch, recipe.task.channels)
    coarse = [n // f for n, f in zip(recipe.sampling.patch, recipe.factor, strict=True)]
    lr = torch.rand(*shape, *coarse, device=device).to(memory_format=layout)
    hr = torch.rand(*shape, *recipe.sampling.patch, device=device)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            sr = network(lr).float()
        torch.autograd.backward(functional.l1_loss(sr, hr))
        optimizer.step()

    return step


class Stopwatch:
    """Times the loop's steps, and bare ones between them."""

    def __init__(self, step: Callable[[], None], device: str) -> None:
        self.step, self.device = step, device
        self.loop: list[tuple[float, float]] = []
        self.bare: list[tuple[float, float]] = []

    def log(self, *settings: object) -> Log:
        """A log that tells this watch of each step."""
        watch = self

        class Timed(Log):
            def advance(self, step: int, rate: float, loss: float, figures: Mapping[str, float]) -> None:
                super().advance(step, rate, loss, figures)
                watch.advance(step)

        return Timed(*settings)  # type: ignore[arg-type]

    def advance(self, step: int) -> None:
        """A step of the loop is done: the second of a round starts the clock, the last stops it."""
        place = (step - 1) % STEPS
        if place == 0:
            self._began = self._now()
        elif place == STEPS - 1:
            self.loop.append(self._since(self._began))
            self.step()
            began = self._now()
            for _ in range(STEPS - 1):
                self.step()
            self.bare.append(self._since(began))

    def report(self, recipe: Recipe) -> None:
        """The row. The first round warmed up."""
        print(f"{recipe.name}, {recipe.network.name}, {recipe.precision}, {torch.get_num_threads()} threads")
        print("| | loop, ms a step | bare, ms a step | bare / loop, median of rounds | least | most |")
        print("|---|---|---|---|---|---|")
        for clock, name in enumerate(("clock", "processor time, all threads")):
            print(f"| {name} | {self._row(clock)} |")

    def _row(self, clock: int) -> str:
        ours, bare = ([one[clock] / (STEPS - 1) for one in times[1:]] for times in (self.loop, self.bare))
        ratios = [b / a for a, b in zip(ours, bare, strict=True)]
        paces = [f"{1e3 * statistics.median(times):.0f}" for times in (ours, bare)]
        spread = [f"{one:.3f}" for one in (statistics.median(ratios), min(ratios), max(ratios))]
        return " | ".join([*paces, *spread])

    def _now(self) -> tuple[float, float]:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def _since(self, began: tuple[float, float]) -> tuple[float, float]:
        now = self._now()
        return now[0] - began[0], now[1] - began[1]


if __name__ == "__main__":
    main()
