"""What the benchmarks share: turns, peak memory, a table in Markdown and a picture."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from torch import nn

__all__ = ["bars", "peak", "peak_of", "table", "trained", "turns"]


def turns(ways: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The median seconds of each way, all of them in turns, so that what else the machine does meets them alike."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            times[name].append(time.perf_counter() - began)
    return {name: float(np.median(found)) for name, found in times.items()}


def peak() -> int:
    """The peak resident bytes of this process. Its own count: what `getrusage` says begins with the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def _measured(work: Callable[..., object], arguments: tuple[object, ...], answer: Connection) -> None:
    result = work(*arguments)
    answer.send((peak(), result))


def peak_of(work: Callable[..., object], *arguments: object) -> tuple[int, object]:
    """The peak resident bytes of a process that does nothing but this work, and what the work gave."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_measured, args=(work, arguments, there))
    process.start()
    there.close()
    try:
        found, result = here.recv()
    finally:
        process.join()
    return int(found), result


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows as a table in Markdown."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def bars(path: Path, title: str, unit: str, values: Mapping[str, float]) -> None:
    """A picture of one number for each name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.6 + 0.4 * len(values)), layout="constrained")
    axes = figure.add_subplot()
    drawn = axes.barh(list(values), list(values.values()), color="#4477aa")
    axes.bar_label(drawn, fmt="%.2f", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel(unit)
    axes.set_title(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"\n{path}")


def trained(network: nn.Module) -> nn.Module:
    """The network with weights that keep activations about as large as a trained one's, and a small correction.

    They are the same in every process.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        scale = 0.1 if name.startswith("tail") else 1.0
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=scale * parameter[0].numel() ** -0.5, generator=generator)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return network.eval()
