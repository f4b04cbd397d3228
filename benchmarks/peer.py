"""Claim: with the same images, degradation, patches and steps a recipe's model is at least as good as a MONAI network.

The peer is a network of MONAI (`basicunet` without its instance norm, which takes away the level of a patch;
`basicunet-norm` as it comes; `segresnet` with 32 filters) on the cubic interpolation of the input, to which it adds
what it learns, at first nothing; it is trained by a plain PyTorch loop: AdamW, L1, a warm-up and a cosine. It is given
the same batches as the recipe's training (same seed), at the recipe's learning rate and at a third of it, and the
better of both counts. Both are scored on the recipe's test images, made coarse by its nominal degradation.

    GEOMEDSR_DATA=... python -m benchmarks.peer [--pipeline pipelines/mri_t1_x2.yaml] [--steps 300] [--device cuda]

On a CPU patches and batches are made smaller (`--patch`, `--batch`), for both, to take some minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from monai.networks.nets import BasicUNet, SegResNet
from torch import Tensor, nn

from geomedsr.model import build_degradation
from geomedsr.networks._network import Network
from geomedsr.networks.interpolate import upsample
from geomedsr.recipe import Recipe, read_recipe
from geomedsr.run.training import open_subjects, train_files
from geomedsr.task import Task
from geomedsr.training.loop import Subjects, _pairs  # the very batches that the program trains on
from geomedsr.training.team import Team
from geomedsr.training.validation import mean, score

PLANES = 12
_MULTIPLE = 16
"""What the sides of an image must be divisible by for the peers."""

PEERS = ("basicunet", "basicunet-norm", "segresnet")


class Peer(Network):
    """A network of MONAI behind a cubic interpolation."""

    def __init__(self, task: Task, name: str) -> None:
        super().__init__(task)
        kind = {"spatial_dims": task.ndim, "in_channels": task.channels, "out_channels": task.channels}
        made: dict[str, Callable[[], nn.Module]] = {
            "basicunet": lambda: BasicUNet(norm=None, **kind),
            "basicunet-norm": lambda: BasicUNet(**kind),
            "segresnet": lambda: SegResNet(init_filters=32, **kind),
        }
        self.body = made[name]()
        *_, last = (module for module in self.body.modules() if isinstance(module, nn.Conv2d | nn.Conv3d))
        nn.init.zeros_(last.weight)
        if last.bias is not None:
            nn.init.zeros_(last.bias)
        self.reach = None

    def forward(self, x: Tensor) -> Tensor:
        """Interpolated, and what is missing."""
        finer = upsample(x, "cubic", self.task.factor)
        ends = [end for n in reversed(finer.shape[2:]) for end in (0, -n % _MULTIPLE)]
        missing: Tensor = self.body(nn.functional.pad(finer, ends, mode="replicate"))
        for axis, n in enumerate(finer.shape[2:], start=2):
            missing = missing.narrow(axis, 0, n)
        return finer + missing


def main() -> None:
    """Prints a row for each, and ends with 1 where ours is below the peer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", type=Path, default=Path("pipelines/mri_t1_x2.yaml"))
    parser.add_argument("--peer", choices=PEERS, nargs="*", default=["basicunet"])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--patch", type=int, help="fine voxels on each side; default: 64 on a CPU, else the recipe's")
    parser.add_argument("--batch", type=int, help="default: 8 on a CPU, else the recipe's")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    recipe = shortened(arguments)
    subjects = open_subjects(recipe, Path(os.environ["GEOMEDSR_DATA"]))
    shape = " x ".join(map(str, recipe.sampling.patch))
    print(f"{recipe.name}: {arguments.steps} steps of {recipe.sampling.batch} patches of {shape}, {arguments.device}")
    print("| network | parameters | PSNR / dB | SSIM | gain over cubic / dB | minutes |\n|---|---|---|---|---|---|")
    ours = row(recipe, subjects, f"ours: {recipe.network.name}", *trained_here(recipe, arguments.device))
    theirs = [better(recipe, subjects, name, arguments.device) for name in arguments.peer]
    sys.exit(0 if ours >= max(theirs, default=-1.0) else 1)


def shortened(arguments: argparse.Namespace) -> Recipe:
    """The recipe's first stage with as many steps as asked for; nobody chooses weights by validation."""
    is_small = arguments.device == "cpu"
    recipe = read_recipe(arguments.pipeline)
    patch, batch = arguments.patch or (64 if is_small else None), arguments.batch or (8 if is_small else None)
    sampling = recipe.sampling.model_dump()
    sampling |= {"patch": [patch] * len(recipe.factor)} if patch else {}
    sampling |= {"batch": batch} if batch else {}
    steps, warmup = arguments.steps, min(arguments.steps // 10, recipe.schedule.warmup)
    schedule = recipe.schedule.model_dump() | {"steps": steps, "warmup": warmup, "patience": None}
    values = recipe.to_json() | {"sampling": sampling, "schedule": schedule, "then": []}
    values["data"] = values["data"] | {"validate": []}
    # An average over a tenth of the steps: with the recipe's own a short run would judge its first weights.
    return Recipe.from_values(values | {"ema": min(recipe.ema, max(0.0, 1 - 10 / steps))}, str(arguments.pipeline))


def trained_here(recipe: Recipe, device: str) -> tuple[Network, float]:
    """The recipe's network after the program's own training, and the minutes that took."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        data, unjudged = Path(os.environ["GEOMEDSR_DATA"]), recipe.data.model_copy(update={"test": ()})
        short = recipe.model_copy(update={"data": unjudged})
        model = train_files(short, data, Path(scratch) / "model", device=device, quiet=True)
    return model.network, (time.perf_counter() - began) / 60


def better(recipe: Recipe, subjects: Subjects, name: str, device: str) -> float:
    """The PSNR of the peer at the better of two learning rates."""
    rates = (recipe.optimizer.rate, recipe.optimizer.rate / 3)
    return max(
        row(recipe, subjects, f"MONAI {name}, rate {rate:.2g}", *plainly_trained(recipe, subjects, name, device, rate))
        for rate in rates
    )


def plainly_trained(recipe: Recipe, subjects: Subjects, name: str, device: str, rate: float) -> tuple[Network, float]:
    """The peer after a plain loop, and the minutes that took."""
    began = time.perf_counter()
    torch.manual_seed(recipe.seed)
    network = Peer(recipe.task, name).to(device)
    pairs, schedule = _pairs(recipe, subjects.train, build_degradation(recipe), Team(device)), recipe.schedule
    optimizer = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.0)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=max(schedule.warmup, 1))
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.steps - schedule.warmup, 0.01 * rate)
    rates = torch.optim.lr_scheduler.SequentialLR(optimizer, [warmup, fall], [schedule.warmup])
    for step in range(1, schedule.steps + 1):
        lr, hr = (batch.to(device) for batch in pairs.batch(step))
        loss = (network(lr) - hr).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rates.step()
    return network.eval().cpu(), (time.perf_counter() - began) / 60


def row(recipe: Recipe, subjects: Subjects, told: str, network: Network, minutes: float) -> float:
    """Prints how a network scores on the test images, and gives its PSNR."""
    degradation = build_degradation(recipe, recipe.nominal)
    found = mean(score(network, subjects.test, degradation, PLANES, recipe.seed))
    scores = f"{found['psnr']:.2f} | {found['ssim']:.4f} | {found['gain']:+.2f}"
    print(f"| {told} | {network.parameter_count:,} | {scores} | {minutes:.1f} |", flush=True)
    return found["psnr"]


if __name__ == "__main__":
    main()
