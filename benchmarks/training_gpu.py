"""Claim: on a GPU the trainer keeps 0.90 of the bare step's pace, and the bare step is quick: see `training.py`.

EDSR's baseline x2, 64 coarse patches of 64 x 64, bf16, channels_last. One run, about a minute:

- the peak of bf16, by a matmul of 8192 x 8192 x 8192;
- the bare step (forward, L1, backward, fused AdamW on tensors at hand), piece by piece, as a CUDA graph, compiled;
- the trainer (resident images, bicubic degradation, flips and turns, schedule, clipping, average, log), as a graph and
  piece by piece, and its pairs alone.

A row that fails is told of, and the others go on.
"""

from __future__ import annotations

import json
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from geomedsr.data.sampling import Subject, prepare
from geomedsr.image import Image
from geomedsr.model import build_degradation, build_network
from geomedsr.recipe import Recipe
from geomedsr.training import loop
from geomedsr.training.log import Log
from geomedsr.training.team import Team

__all__ = ["measure"]

RECIPE = """
name: edsr-baseline-x2
channels: [red, green, blue]
factor: [2, 2]
data: {train: [synthetic]}
degradation: {name: bicubic}
network: {name: edsr, width: 64, blocks: 16}
losses: [{name: l1}]
sampling: {patch: [128, 128], batch: 64, gain: 0.1}
optimizer: {name: adamw, rate: 1.0e-4}
schedule: {steps: 300, warmup: 10, checkpoint_every: 100000}
precision: bf16
"""
WARM, STEPS, TRAINED = 10, 60, 240
Row = dict[str, Any]


def measure(out: Path | None, changes: Mapping[str, str], device: str = "cuda") -> None:
    """Prints the rows, and writes them as JSON where `out` says."""
    bench = Bench(Recipe.from_yaml(RECIPE, "the benchmark", {"schedule.steps": str(TRAINED), **changes}), device)
    rows: list[Row] = [{"row": "machine", "device": bench.told(), "torch": torch.__version__}]
    print(rows[0], flush=True)
    for name in ("peak", "bare_eager", "bare_graph", "trainer_auto", "trainer_eager", "pairs", "bare_compiled"):
        began = time.perf_counter()
        try:
            row = {"row": name, **getattr(bench, name)()}
        except Exception as error:  # noqa: BLE001 - the other rows are wanted all the same
            traceback.print_exc()
            row = {"row": name, "failed": f"{type(error).__name__}: {error}"}
        row["seconds"] = round(time.perf_counter() - began, 1)
        rows.append(row)
        print(row, flush=True)
        if out is not None:
            out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


class Bench:
    """What is measured; later rows are told beside earlier ones."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        self.recipe, self.device = recipe, torch.device(device)
        self.pace: dict[str, float] = {}
        self.peak_flops = 0.0
        self.flops = flops_of(recipe)

    def told(self) -> str:
        """The device's name."""
        return torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"

    def wait(self) -> float:
        """The time, when the device has done all that it had to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, step: Callable[[], object], steps: int = STEPS) -> float:
        """Steps a second: the best of three runs, as nothing makes a step quicker than it is."""
        for _ in range(WARM):
            step()
        best = 0.0
        for _ in range(3):
            began = self.wait()
            for _ in range(steps):
                step()
            best = max(best, steps / (self.wait() - began))
        return best

    def peak(self) -> Row:
        """The peak of bf16."""
        size = 8192 if self.device.type == "cuda" else 256
        a, b = (torch.randn(size, size, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        self.peak_flops = self.timed(lambda: a @ b, 20) * 2 * size**3
        return {"tflops": round(self.peak_flops / 1e12, 1)}

    def bare_eager(self) -> Row:
        """The bare step, piece by piece."""
        return self._row("bare_eager", self.timed(self._bare()))

    def bare_graph(self) -> Row:
        """The bare step as a CUDA graph."""
        step, stream = self._bare(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            step()
        return self._row("bare_graph", self.timed(graph.replay))

    def bare_compiled(self) -> Row:
        """The bare step with its network through torch.compile."""
        return self._row("bare_compiled", self.timed(self._bare(torch.compile)))

    def trainer_auto(self) -> Row:
        """The trainer as it runs by itself."""
        return self._row("trainer_auto", self._trained("auto")) | self._ratios("trainer_auto")

    def trainer_eager(self) -> Row:
        """The trainer without graphs."""
        return self._row("trainer_eager", self._trained("eager")) | self._ratios("trainer_eager")

    def pairs(self) -> Row:
        """The trainer's pairs alone."""
        pairs = loop._pairs(self.recipe, images(self.recipe), build_degradation(self.recipe), Team(self.device.type))
        step = iter(range(1, 10**9))
        return {"batches_per_s": round(self.timed(lambda: pairs.batch(next(step))), 1), "kind": type(pairs).__name__}

    def _row(self, name: str, pace: float) -> Row:
        self.pace[name] = pace
        used = pace * self.flops
        share = round(used / self.peak_flops, 3) if self.peak_flops else None
        return {"steps_per_s": round(pace, 2), "tflops": round(used / 1e12, 1), "share_of_peak": share}

    def _ratios(self, name: str) -> Row:
        ours = self.pace[name]
        return {f"of_{other}": round(ours / pace, 3) for other, pace in self.pace.items() if other.startswith("bare")}

    def _bare(self, change: Callable[..., Any] = lambda network: network) -> Callable[[], Tensor]:
        recipe, on_gpu = self.recipe, self.device.type == "cuda"
        network = build_network(recipe).to(self.device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        called = change(network)
        optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True, capturable=on_gpu)
        coarse = [n // f for n, f in zip(recipe.sampling.patch, recipe.factor, strict=True)]
        shape = (recipe.sampling.batch, recipe.task.channels)
        lr = torch.rand(*shape, *coarse, device=self.device).to(memory_format=torch.channels_last)
        hr = torch.rand(*shape, *recipe.sampling.patch, device=self.device)

        def step() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.device.type, torch.bfloat16):
                sr = called(lr).float()
            loss = functional.l1_loss(sr, hr)
            torch.autograd.backward(loss)
            optimizer.step()
            return loss

        return step

    def _trained(self, speed: loop.Speed) -> float:
        """Steps a second of the last two thirds of a training."""
        times: dict[int, float] = {}

        class Timed(Log):
            def advance(self, step: int, rate: float, loss: float, figures: Mapping[str, float]) -> None:
                super().advance(step, rate, loss, figures)
                times[step] = time.perf_counter()

        real, steps = loop.Log, self.recipe.schedule.steps  # type: ignore[attr-defined]
        loop.Log = Timed  # type: ignore[attr-defined]
        try:
            with tempfile.TemporaryDirectory() as scratch:
                subjects = loop.Subjects(images(self.recipe), (), ())
                loop.train(self.recipe, subjects, Path(scratch) / "m", device=self.device.type, speed=speed)
        finally:
            loop.Log = real  # type: ignore[attr-defined]
        # The last steps are told of at once, when all are done.
        first, last = steps // 3, max(steps - 20, steps // 3 + 1)
        return (last - first) / (times[last] - times[first])


def flops_of(recipe: Recipe) -> float:
    """The floating-point operations of a step, counted on a network without memory."""
    coarse = [n // f for n, f in zip(recipe.sampling.patch, recipe.factor, strict=True)]
    network = build_network(recipe).to("meta")
    x = torch.empty(recipe.sampling.batch, recipe.task.channels, *coarse, device="meta")
    with FlopCounterMode(display=False) as counter:
        network(x).sum().backward()
    return float(counter.get_total_flops())


def images(recipe: Recipe) -> list[Subject]:
    """Synthetic images of smooth fields and sharp edges."""
    rng, found = np.random.default_rng(0), []
    for number in range(4):
        place = np.stack(np.meshgrid(*[np.linspace(0, 60, 768)] * 2, indexing="ij"))
        waves = [np.sin(np.tensordot(rng.normal(size=2), place, 1)) for _ in range(2 * recipe.task.channels)]
        fields = [a + 0.5 * np.sign(b) for a, b in zip(waves[::2], waves[1::2], strict=True)]
        image = Image.of(np.stack(fields).astype(np.float32))
        found.append(prepare(f"image {number}", image, recipe.task.ndim, recipe.intensity, None))
    return found
