"""A GPU at work: how fast the stream is, how much of the bare forward pass that is, and how much of the peak.

Needs torch, numpy and what the stream imports; images are in memory. Bare is the forward pass of as many windows of
the same shape that lie on the device already, eager and replayed as a CUDA graph. The peak is that of a matrix product
in the same run. Each row stands for itself: one that fails is told, with its traceback, and the others go on; rows
that no longer fit into `--seconds` are left out.

    python -m benchmarks.gpu --out gpu --seconds 70
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks._bench import table, trained
from geomedsr.data.intensity import Intensity
from geomedsr.grid import Box, Grid, Shape
from geomedsr.image import ImageSpec, Voxels
from geomedsr.inference.backend import TorchBackend
from geomedsr.inference.choice import psnr
from geomedsr.inference.cuda import CudaGear, one_algorithm
from geomedsr.inference.layout import layout_of
from geomedsr.inference.upscaler import Outcome, Upscaler
from geomedsr.networks import edsr
from geomedsr.networks._network import Network
from geomedsr.task import Task

_DEVICE = "cuda:0"
_LONG = 0.8
"""Seconds above which a piece of work is timed once."""
_BEGAN = time.perf_counter()


class Shelf:
    """An image in memory in its own dtype: a source, and a sink that takes numbers as they are stored."""

    def __init__(self, stored: NDArray[Any]) -> None:
        channels = tuple(f"channel {i + 1}" for i in range(len(stored)))
        self.spec = ImageSpec(Grid.plain(stored.shape[1:]), channels, stored.dtype)
        self.stored = stored

    def read(self, box: Box) -> Voxels:
        """The voxels of a box."""
        return self.stored[(slice(None), *box.slices)].astype(np.float32)

    def load(self, box: Box) -> NDArray[Any]:
        """The numbers of a box."""
        return self.stored[(slice(None), *box.slices)]

    def close(self) -> None:
        """Nothing to let go of."""

    def write(self, box: Box, voxels: Voxels) -> None:
        """Takes the voxels of a box."""
        kind = self.stored.dtype
        if kind.kind in "iu":
            ends = np.iinfo(kind)
            voxels = np.clip(np.rint(voxels), ends.min, ends.max)
        self.stored[(slice(None), *box.slices)] = voxels

    def store(self, box: Box, stored: NDArray[Any]) -> None:
        """Takes the numbers of a box; torch copies in several threads."""
        torch.from_numpy(self.stored[(slice(None), *box.slices)]).copy_(torch.from_numpy(stored))

    def commit(self, verify: object = None) -> None:
        """Nothing to do."""

    def abort(self) -> None:
        """Nothing to undo."""


class Fixed:
    """An intensity that is known."""

    def fit(self, source: object) -> Intensity:
        """The map."""
        del source
        return Intensity(0.0, 4000.0)


@dataclass(frozen=True)
class Case:
    """A network and an image of uint16."""

    name: str
    task: Task
    shape: Shape
    precision: str
    settings: tuple[tuple[str, int], ...] = (("width", 64), ("blocks", 16))

    def network(self) -> Network:
        """The network, always with the same weights."""
        torch.manual_seed(0)  # the biases stay as they are built
        network = trained(edsr.build(self.task, **dict(self.settings)))
        assert isinstance(network, Network)
        return network


def cases(size: float) -> Iterator[Case]:
    """The most telling first; axes are `size` times their usual length."""
    raster = (4, *(max(64, int(4000 * size)),) * 2)
    volume = (1, *(max(32, int(n * size)) for n in (160, 192, 160)))
    plane, bands, space = Task(2, 1, (2, 2)), Task(2, 4, (2, 2)), Task(3, 1, (2, 2, 2))
    for precision in ("bf16", "float32"):
        yield Case("raster", bands, raster, precision)
        yield Case("volume, planar", plane, volume, precision)
        yield Case("volume, 3D", space, volume, precision)


@lru_cache(maxsize=2)
def speckle(shape: Shape) -> NDArray[np.uint16]:
    """Smooth waves with noise, of about 0 to 4000."""
    rng = np.random.default_rng(0)
    waves = sum(np.sin(np.arange(n, dtype=np.float32) / 9).reshape([-1 if i == axis else 1 for i in range(len(shape))])
                for axis, n in enumerate(shape))  # fmt: skip
    noise = rng.integers(0, 200, shape, dtype=np.uint16)
    return np.asarray(2000 + 400 * waves, np.uint16) + noise


def seconds(work: Callable[[], object], repeats: int = 3, warm: int = 1) -> float:
    """The median time of a piece of work, the device's included, after passes that warm it up."""

    def once() -> float:
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        return time.perf_counter() - began

    first = [once() for _ in range(warm)] or [0.0]
    return float(np.median([once() for _ in range(repeats if first[-1] < _LONG else 1)]))


def upscale(case: Case, shelf: Shelf, sink: Shelf, network: Network, **more: Any) -> Outcome:  # noqa: ANN401
    """The stream."""
    settings = {"device": _DEVICE, "precision": case.precision, "tell": print, **more}
    return Upscaler(network, Fixed(), **settings).run(shelf, sink)  # type: ignore[arg-type]


def flops(network: Network) -> float:
    """Multiplications and additions for each voxel that the network sees, as it runs here."""
    from geomedsr.inference.tail import join_tail

    length = 512 if network.task.ndim == 2 else 96
    ghost = join_tail(copy.deepcopy(network)).to("meta")
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        ghost(torch.empty((1, network.task.channels, *(length,) * network.task.ndim), device="meta"))
    return float(counter.get_total_flops()) / math.pow(length, network.task.ndim)


def measured(case: Case, peak: float) -> dict[str, object]:
    """The row of a case; `peak` in operations a second."""
    network = case.network()
    shelf = Shelf(speckle(case.shape))
    factor = Upscaler(network, None).factor_for(shelf.spec)
    sink = Shelf(np.zeros(shelf.spec.upscaled(factor).shape, np.uint16))
    upscaler = Upscaler(network, Fixed(), device=_DEVICE, precision=case.precision, tell=print)  # type: ignore[arg-type]
    torch.cuda.reset_peak_memory_stats()
    outcomes: list[Outcome] = []
    # Of a single tile the first pass is eager and the second records.
    repeats = 5 if case.precision == "bf16" else 1
    stream = seconds(lambda: outcomes.append(upscaler.run(shelf, sink)), repeats, warm=2)
    memory = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    outcome = outcomes[-1]
    batch = layout_of(case.task, shelf.spec).batch_shape(outcome.window)
    began = time.perf_counter()
    upscaler.session(shelf, sink)
    planning = time.perf_counter() - began
    eager, graph = bare(network, case.precision, batch, outcome.tiles, repeats)
    redundancy = batch[0] * math.prod(batch[2:]) * batch[1] * outcome.tiles / math.prod(shelf.spec.shape)
    voxels = math.prod(case.shape)
    work = flops(network) * batch[0] * math.prod(batch[2:]) * outcome.tiles
    return {
        "case": case.name, "shape": case.shape, "precision": case.precision, "window": outcome.window,
        "batch": batch, "tiles": outcome.tiles, "stream_s": stream, "bare_eager_s": eager, "bare_graph_s": graph,
        "stream_over_eager": stream / eager, "stream_over_graph": stream / graph, "redundancy": redundancy,
        "stream_over_graph_without_halos": stream / graph * redundancy, "planning_s": planning,
        "first_s": outcomes[0].seconds,
        "lr_voxels_per_s": voxels / stream, "hr_voxels_per_s": voxels * math.prod(factor) / stream,
        "flops_per_s": work / stream, "share_of_peak": work / stream / peak,
        "bare_share_of_peak": work / graph / peak, "gpu_idle": outcome.waited,
        "peak_allocated_mib": memory[0] / 2**20, "peak_reserved_mib": memory[1] / 2**20,
    }  # fmt: skip


def bare(network: Network, precision: str, shape: Shape, tiles: int, repeats: int) -> tuple[float, float]:
    """The forward pass alone, eager (where there is time for repeats) and replayed, of as many windows."""
    backend = TorchBackend(network, _DEVICE, precision)
    x = torch.rand(shape, device=_DEVICE)
    backend.forward(x, _DEVICE)
    eager = math.nan
    if repeats > 1:
        eager = seconds(lambda: [backend.forward(x, _DEVICE) for _ in range(tiles)])
    gear = CudaGear(_DEVICE)
    with gear.lane("compute"), torch.inference_mode():
        replay, _ = gear.record(lambda: backend.forward(x, _DEVICE))
        graph = seconds(lambda: [replay() for _ in range(tiles)], repeats)
    return eager, graph


def orders(case: Case) -> dict[str, object]:
    """One window in both memory formats, with cuDNN's own choice of algorithms and with the fastest of a trial."""
    network, ndim = case.network().to(_DEVICE), case.task.ndim
    x = torch.rand((1, case.task.channels, *((1024, 1024) if ndim == 2 else (96, 96, 96))), device=_DEVICE)
    last = torch.channels_last if ndim == 2 else torch.channels_last_3d
    row: dict[str, object] = {"case": f"orders, {ndim}D", "precision": case.precision, "window": tuple(x.shape[2:])}
    for name, order in (("contiguous", torch.contiguous_format), ("channels_last", last)):
        network.to(memory_format=order)  # type: ignore[call-overload]
        for trial in (False, True):
            row[f"{name}{', trial' if trial else ''}_ms"] = 1e3 * pass_of(network, x, order, case.precision, trial)
    return row


def pass_of(network: Network, x: Tensor, order: torch.memory_format, precision: str, trial: bool) -> float:
    """The seconds of a forward pass."""
    x = x.contiguous(memory_format=order)
    flags = torch.backends.cudnn.flags(enabled=True, benchmark=trial, deterministic=not trial, allow_tf32=False)
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"), flags:
        return seconds(lambda: network(x), 5)


def machine() -> dict[str, object]:
    """The device, its peaks by matrix products, and what copies reach."""
    n = 8192
    found: dict[str, object] = {
        "case": "machine", "name": torch.cuda.get_device_name(0), "torch": torch.__version__,
        "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    for name, dtype in (("bf16", torch.bfloat16), ("float32", torch.float32)):
        a, b = (torch.rand((n, n), device=_DEVICE, dtype=dtype) for _ in range(2))
        count = 20 if name == "bf16" else 4
        taken = seconds(lambda a=a, b=b, count=count: [a @ b for _ in range(count)])  # type: ignore[misc]
        found[f"matmul_{name}_flops"] = 2.0 * n**3 * count / taken
    size = 256 << 20
    here, there = (
        torch.empty(size, dtype=torch.uint8, pin_memory=True),
        torch.empty(size, dtype=torch.uint8, device=_DEVICE),
    )
    pageable = torch.zeros(size, dtype=torch.uint8)
    found["to_device_gb_s"] = size / seconds(lambda: there.copy_(here, non_blocking=True)) / 1e9
    found["from_device_gb_s"] = size / seconds(lambda: here.copy_(there, non_blocking=True)) / 1e9
    found["to_device_pageable_gb_s"] = size / seconds(lambda: there.copy_(pageable)) / 1e9
    found["host_copy_gb_s"] = size / seconds(lambda: here.copy_(pageable)) / 1e9
    return found


def checks() -> Iterator[tuple[str, Callable[[], dict[str, object]]]]:
    """What must hold, on small images: bits, distances, and going on when memory runs out."""
    plane, space = Task(2, 1, (2, 2)), Task(3, 1, (2, 2, 2))
    for task, shape, tile in ((plane, (1, 300, 311), (120,)), (space, (1, 60, 62, 66), (30,))):
        name, small = f"{task.ndim}D", (("width", 32), ("blocks", 3))
        case = Case(name, task, shape, "float32", small)
        yield f"checks, {name}", lambda case=case, tile=tile: bits(case, tile)  # type: ignore[misc]


def upscaled(case: Case, stored: NDArray[Any], dtype: Any, **more: Any) -> tuple[NDArray[Any], Outcome]:  # noqa: ANN401
    """An image through the stream."""
    network, shelf = case.network(), Shelf(stored)
    finer = shelf.spec.upscaled(case.task.factor)
    sink = Shelf(np.zeros(finer.shape, dtype))
    outcome = upscale(case, shelf, sink, network, **more)
    return sink.stored, outcome


def bits(case: Case, tile: Shape) -> dict[str, object]:
    """Tiles against the whole, another tiling, the CPU, bf16, real numbers, and eager passes."""
    image, real = speckle(case.shape), np.dtype(np.float32)
    whole, _ = upscaled(case, image, real, tile=case.shape[1:])
    tiled, outcome = upscaled(case, image, real, tile=tile)
    again, _ = upscaled(case, image, real, tile=tile)
    scale = float(np.abs(whole).max())
    moved = image[(slice(None), *(slice(7, None),) * case.task.ndim)]  # the same windows elsewhere
    shifted, _ = upscaled(case, moved, real, tile=tile)
    inner = (slice(None), *(slice(60, -20),) * case.task.ndim)
    other = tiled[(slice(None), *(slice(14, None),) * case.task.ndim)]
    here, _ = upscaled(case, image, real, device="cpu", memory=4 << 30)
    near, _ = upscaled(Case(case.name, case.task, case.shape, "bf16", case.settings), image, real, tile=tile)
    floats, _ = upscaled(case, image.astype(np.float32), real, tile=tile)
    whole_numbers, _ = upscaled(case, image, np.dtype(np.uint16), tile=tile)
    return {
        "case": f"checks, {case.name}", "tiles": outcome.tiles, "window": outcome.window,
        "tiled_equals_whole": bool(np.array_equal(tiled, whole)),
        "tiled_from_whole": float(np.abs(tiled - whole).max()) / scale,
        "twice_the_same": bool(np.array_equal(tiled, again)),
        "moved_windows_equal": bool(np.array_equal(shifted[inner], other[inner])),
        "gpu_from_cpu": float(np.abs(whole - here).max()) / scale, "bf16_psnr": psnr(near, whole),
        "float_input_equals": bool(np.array_equal(floats, tiled)),
        "uint16_output_equals": bool(np.array_equal(whole_numbers, np.rint(tiled).clip(0, 65535).astype(np.uint16))),
        "graph_from_eager": graph_from_eager(case),
    }  # fmt: skip


def graph_from_eager(case: Case) -> dict[str, object]:
    """How far each of four runs (the first is eager, the others are replays) is from an eager pass."""
    found: dict[str, object] = {}
    told: list[str] = []
    for precision in ("float32", "bf16"):
        backend = TorchBackend(case.network(), _DEVICE, precision, tell=told.append)
        assert backend.relay is not None
        batch = np.random.default_rng(0).random((2, *case.shape), np.float32)
        off = []
        for _ in range(4):
            with backend.relay.start(batch) as made:
                off.append(float(np.abs(made - backend.run(batch)).max()))
        backend.relay.let_go()
        found[precision] = off
    return {"off": found, "told": told}


def exhausted() -> dict[str, object]:
    """A job whose windows do not fit, on a device that is nearly full."""
    case = Case("memory", Task(2, 1, (2, 2)), (1, 3000, 3000), "float32")
    image = speckle(case.shape)
    wanted, _ = upscaled(case, image, np.dtype(np.uint16), tile=(500,))
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.5e9 / torch.cuda.get_device_properties(0).total_memory)
    try:
        found, outcome = upscaled(case, image, np.dtype(np.uint16), tile=(3000,))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    off = np.abs(found.astype(np.int32) - wanted).max()
    return {"case": "memory runs out", "window": outcome.window, "tiles": outcome.tiles, "largest_difference": int(off)}


def monai(case: Case, overlap: float, ours: dict[str, object]) -> dict[str, object]:
    """MONAI's sliding window on the device, windows of 96 in batches of 4, in the same precision as ours."""
    from monai.inferers import sliding_window_inference

    network = case.network().to(_DEVICE)
    image = torch.from_numpy(speckle(case.shape).astype(np.float32) / 4000)[None]
    half = torch.autocast("cuda", torch.bfloat16, enabled=case.precision == "bf16")

    def run() -> object:
        with torch.inference_mode(), half, one_algorithm():
            x = image.to(_DEVICE)
            if case.task.ndim == 3:
                return sliding_window_inference(x, (96,) * 3, 4, network, overlap=overlap, mode="gaussian").cpu()
            slices = x.movedim(-1, 0)[:, 0] if case.name != "raster" else x
            return sliding_window_inference(slices, (96, 96), 4, network, overlap=overlap, mode="gaussian").cpu()

    taken = seconds(run, 1, warm=1 if case.precision == "bf16" else 0)
    return {
        "case": f"MONAI {overlap}, {case.name}", "precision": case.precision, "stream_s": taken,
        "lr_voxels_per_s": math.prod(case.shape) / taken,
        "over_ours": taken / float(str(ours.get("stream_s", "nan"))),
    }  # fmt: skip


class Rows:
    """The rows that were measured, those that failed, and those that there was no time for."""

    def __init__(self, limit: float, out: Path | None) -> None:
        self.found: list[dict[str, object]] = []
        self._limit, self._out = limit, out

    def add(self, name: str, work: Callable[[], dict[str, object]]) -> dict[str, object]:
        """Measures a row, whatever happens, and keeps what there is so far."""
        began = time.perf_counter()
        if began - _BEGAN > self._limit:
            row: dict[str, object] = {"case": name, "left_out": "no time"}
        else:
            try:
                row = work()
            except Exception as error:  # noqa: BLE001  (a row that fails must not cost the others)
                traceback.print_exc()
                row = {"case": name, "error": f"{type(error).__name__}: {error}"}
            torch.cuda.empty_cache()
        row["took_s"] = time.perf_counter() - began
        self.found.append(row)
        print(json.dumps(row, default=str), file=sys.stderr, flush=True)
        if self._out:
            self._out.mkdir(parents=True, exist_ok=True)
            (self._out / "gpu.json").write_text(json.dumps(self.found, indent=1, default=str))
        return row


_TITLES = {
    "case": "case", "precision": "precision", "window": "window", "tiles": "tiles", "stream_s": "seconds",
    "lr_voxels_per_s": "lr voxels/s", "stream_over_eager": "over bare eager", "stream_over_graph": "over bare graph",
    "redundancy": "redundancy", "bare_share_of_peak": "bare share of peak", "over_ours": "times our seconds",
    "share_of_peak": "share of peak", "gpu_idle": "GPU idle", "peak_allocated_mib": "peak MiB",
}  # fmt: skip


def shown(rows: list[dict[str, object]]) -> str:
    """The rows that have a speed, as a table; the others as they are."""
    lines = [[_cell(row.get(key, "")) for key in _TITLES] for row in rows if "stream_s" in row]
    others = [json.dumps(row, default=str) for row in rows if "stream_s" not in row]
    return table(list(_TITLES.values()), lines) + "\n\n" + "\n".join(others)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value < 1e4 else f"{value:.3e}"
    return " x ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def main() -> None:
    """Runs the rows and prints them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for gpu.json and gpu.md")
    parser.add_argument("--seconds", type=float, default=70.0, help="no row is begun after this")
    parser.add_argument("--size", type=float, default=1.0, help="length of each axis")
    parser.add_argument("--only", default="", help="run the rows whose names contain this")
    asked = parser.parse_args()
    rows = Rows(asked.seconds, asked.out)
    peaks = rows.add("machine", machine)

    def add(name: str, work: Callable[[], dict[str, object]]) -> dict[str, object]:
        return rows.add(name, work) if asked.only in name else {}

    def add_case(case: Case) -> dict[str, object]:
        peak = float(str(peaks.get(f"matmul_{case.precision}_flops", "nan")))
        return add(f"{case.name}, {case.precision}", lambda: measured(case, peak))

    def add_monai(case: Case, ours: dict[str, object]) -> None:
        for overlap in (0.25, 0.5):
            add(f"MONAI {overlap}, {case.name}, {case.precision}", lambda o=overlap: monai(case, o, ours))  # type: ignore[misc]

    every = list(cases(asked.size))
    half, real = ([case for case in every if case.precision == precision] for precision in ("bf16", "float32"))
    ours = [add_case(case) for case in half]
    for name, work in checks():
        add(name, work)
    for case, row in zip(half, ours, strict=True):
        if case.name != "raster":
            add_monai(case, row)
    ours = [add_case(case) for case in real]
    add("memory runs out", exhausted)
    add_monai(real[-1], ours[-1])
    for case in (half[0], half[-1], real[0], real[-1]):
        add(f"orders, {case.name}, {case.precision}", lambda case=case: orders(case))  # type: ignore[misc]
    text = shown(rows.found)
    print(text)
    if asked.out:
        (asked.out / "gpu.md").write_text(text + "\n")


if __name__ == "__main__":
    main()
