"""Claim: the networks are those of the literature, their reach is exact, and what each costs.

For every network of the folder at its published settings, with two and with three axes and one channel: parameters,
multiplications (MACs) for one lr voxel at x2 and x4, reach at x2, the largest difference between tiles and the whole
image (0 where the reach is finite), and the time for as many lr voxels as a slice of 128 x 128 has. Then the number of
parameters beside the one that each paper gives. Interpolation counts no MACs: it has no weights.

    python -m benchmarks.networks [--networks edsr,span] [--threads 1]
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from geomedsr import registry
from geomedsr.grid import Factor, Shape
from geomedsr.image import Image, Voxels
from geomedsr.inference.upscaler import Upscaler
from geomedsr.networks._network import Network
from geomedsr.task import Task

BLOCKS: Mapping[int, Shape] = {2: (128, 128), 3: (32, 32, 16)}
"""What is timed, by the number of axes: 16,384 lr voxels both."""

PUBLISHED: Sequence[tuple[str, int, int, Mapping[str, Any], float, str]] = (
    ("edsr", 3, 2, {}, 1.37e6, "arXiv:1707.02921, baseline"),
    ("fsrcnn", 1, 2, {}, 12_464, "arXiv:1608.00367 (without biases and slopes)"),
    ("rrdb", 3, 4, {}, 16.7e6, "arXiv:1809.00219"),
    ("span", 3, 4, {"branches": False}, 498e3, "arXiv:2311.12770, 52 channels"),
    ("spsr", 3, 4, {}, 24.8e6, "arXiv:2003.13081"),
    ("srresnet", 3, 4, {}, 1.55e6, "arXiv:1609.04802"),
    ("liif", 3, 2, {}, 1.57e6, "arXiv:2012.09161, on EDSR-baseline"),
    ("swinir", 3, 2, {}, 910e3, "arXiv:2108.10257, light"),
)
"""Network, channels, factor, settings, the paper's parameters, where they stand."""


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(registry.names("networks")))
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"One channel, published settings, float32, {arguments.threads} CPU thread(s).\n")
    print("| network | axes | parameters | MACs / lr voxel x2 | x4 | reach | tiled - whole | ms / 128 x 128 |")
    print("|---|---|---|---|---|---|---|---|")
    for name in arguments.networks.split(","):
        for ndim in (2, 3):
            print(row(name, ndim), flush=True)
    print("\n| network | factor | parameters | published | differs by | source |\n|---|---|---|---|---|---|")
    for published in PUBLISHED:
        print(beside_the_paper(*published))


def row(name: str, ndim: int) -> str:
    """The costs of one network."""
    network = built(name, (2,) * ndim)
    twice, four = (macs(name, (factor,) * ndim) for factor in (2, 4))
    error = seam(network)
    cells = (
        name,
        str(ndim),
        f"{network.parameter_count:,}",
        f"{twice:,.0f}",
        f"{four:,.0f}",
        "all" if network.reach is None else str(max(network.reach)),
        f"{error:g}",
        f"{milliseconds(network):,.0f}",
    )
    return f"| {' | '.join(cells)} |"


def built(name: str, factor: Factor, channels: int = 1, **settings: object) -> Network:
    """The network as it is shipped. What starts at zero is random, or it would hide what the network looks at."""
    torch.manual_seed(0)
    network: Network = registry.load("networks", name).build(Task(len(factor), channels, factor), **settings)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.ndim > 1 and not weight.any():
                weight.normal_(0, 0.02)
    return network.for_inference().eval()


def macs(name: str, factor: Factor) -> float:
    """Multiplications for one lr voxel, as torch counts them (two operations each), without computing any."""
    network = built(name, factor).to("meta")
    shape = (16 * network.multiple_of,) * len(factor)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, 1, *shape, device="meta"))
    return float(counter.get_total_flops()) / 2 / math.prod(shape)


def seam(network: Network) -> float:
    """The largest difference between an image done in tiles and done whole, on a strip three tiles long."""
    assert network.reach is not None
    ndim, halo, multiple = network.task.ndim, network.reach[0], network.multiple_of
    shape = (2 * halo + 6 * max(multiple, 8), *[2 * multiple] * (ndim - 1))
    image = Image.of(np.random.default_rng(0).random((1, *shape), np.float32))
    whole, tiled = (upscaled(network, image, tile) for tile in (shape, (2 * max(multiple, 8), *shape[1:])))
    return float(np.abs(tiled - whole).max())


def upscaled(network: Network, image: Image, tile: Shape) -> Voxels:
    """The image, as the program upscales it."""
    upscaler = Upscaler(network, None, tile=tile)
    finer = image.spec.upscaled(upscaler.factor_for(image.spec))
    sink = Image.empty(finer)
    upscaler.run(image, sink)
    return sink.voxels


def milliseconds(network: Network) -> float:
    """The median time of a pass over a block, after one that warms up."""
    x = torch.rand(1, 1, *BLOCKS[network.task.ndim])
    with torch.inference_mode():
        first = seconds(lambda: network(x))
        # A pass of many seconds is warm all through.
        times = [seconds(lambda: network(x)) for _ in range(5)] if first < 2 else [first]
    return 1000 * statistics.median(times)


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def beside_the_paper(
    name: str, channels: int, factor: int, settings: Mapping[str, Any], published: float, source: str
) -> str:
    """The number of parameters beside the paper's."""
    with torch.device("meta"):
        network = registry.load("networks", name).build(Task(2, channels, (factor, factor)), **settings)
    counted = [p.numel() for p in network.parameters() if name != "fsrcnn" or p.ndim > 1]
    found = sum(counted)
    return f"| {name} | {factor} | {found:,} | {published:,.0f} | {found / published - 1:+.2%} | {source} |"


if __name__ == "__main__":
    main()
