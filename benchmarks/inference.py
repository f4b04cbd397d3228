"""Ours against the field's usual ways to apply a network to a volume: same network, weights, voxels and machine.

- ours: the stream, from memory to memory, in exact float32, and with `--precision auto`.
- MONAI: `sliding_window_inference` with windows of 96, gaussian blending, overlap 0.25 (its default) and 0.5.
- TorchIO: `GridSampler` and `GridAggregator`, patches of 96 that overlap by 24, cropped (its default).
- plain: the network on the whole volume in one call, which the others' outputs are compared with.

All take turns in one run. Peak memory is that of a process that does nothing else. On a smaller volume the windows are
smaller alike, so that there are as many of them.

    python -m benchmarks.inference --size 1 --repeats 5 --out pictures
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks._bench import bars, peak_of, table, trained, turns
from geomedsr.grid import Shape
from geomedsr.image import Image, Voxels
from geomedsr.inference.upscaler import Outcome, Upscaler
from geomedsr.networks import edsr
from geomedsr.networks._network import Network
from geomedsr.task import Task

_LARGE = (160, 192, 160)
_ROI, _OVERLAP = 96, 24
_NETWORKS: dict[str, tuple[Task, dict[str, int]]] = {
    "3D": (Task(3, 1, (2, 2, 2)), {"width": 32, "blocks": 4}),
    "slices": (Task(2, 1, (2, 2)), {"width": 64, "blocks": 16}),
}


def network_of(name: str) -> Network:
    """One of the networks, always with the same weights."""
    task, settings = _NETWORKS[name]
    network = trained(edsr.build(task, **settings))
    assert isinstance(network, Network)
    return network


def volume(shape: Shape) -> Voxels:
    """A smooth field with noise, of about 0 to 1."""
    rng = np.random.default_rng(0)
    waves = sum(np.sin(np.arange(n) / 9).reshape([-1 if i == axis else 1 for i in range(3)])
                for axis, n in enumerate(shape))  # fmt: skip
    return np.asarray(0.5 + waves / 6 + rng.normal(0, 0.05, shape), np.float32)


def ours(network: Network, voxels: Voxels, precision: str) -> tuple[Voxels, Outcome]:
    """The stream."""
    source = Image.of(voxels[None])
    upscaler = Upscaler(network, None, precision=precision)
    sink = Image.empty(source.spec.upscaled(upscaler.factor_for(source.spec)))
    outcome = upscaler.run(source, sink)
    return sink.voxels[0], outcome


def plain(network: Network, voxels: Voxels) -> Voxels:
    """One call; a planar network sees the slices as one batch, one after the other where that is too much."""
    with torch.inference_mode():
        if network.task.ndim == 3:
            return np.asarray(network(torch.from_numpy(voxels)[None, None])[0, 0])
        slices = torch.from_numpy(voxels).movedim(2, 0)[:, None]
        return np.asarray(torch.cat([network(one[None]) for one in slices])[:, 0].movedim(0, 2))


def _scaled(length: int, voxels: Voxels) -> int:
    scaled: int = round(length * voxels.shape[0] / _LARGE[0])
    return scaled


def monai(network: Network, voxels: Voxels, overlap: float) -> Voxels:
    """MONAI's sliding window, at its usual settings."""
    from monai.inferers import sliding_window_inference

    def windows(x: Tensor, roi: Shape) -> Tensor:
        with torch.inference_mode():
            found: Tensor = sliding_window_inference(x, roi, 4, network, overlap=overlap, mode="gaussian")
        return found

    if network.task.ndim == 3:
        roi: Shape = (_scaled(_ROI, voxels),) * 3
        return np.asarray(windows(torch.from_numpy(voxels)[None, None], roi)[0, 0])
    slices = torch.from_numpy(voxels).movedim(2, 0)[:, None]
    roi = (_scaled(_ROI, voxels),) * 2
    return np.asarray(torch.cat([windows(one[None], roi) for one in slices])[:, 0].movedim(0, 2))


def torchio(network: Network, voxels: Voxels) -> Voxels:
    """TorchIO's sampler and aggregator; the finer image's places are the coarse ones times the factor."""
    import torchio as tio

    def subject(shape: Shape) -> tio.Subject:
        return tio.Subject(image=tio.ScalarImage(tensor=torch.empty((1, *shape))))

    planar, factor = network.task.ndim == 2, (*network.task.factor, 1)[:3]
    roi, twice = _scaled(_ROI, voxels), 2 * _scaled(_OVERLAP // 2, voxels)  # it wants an even overlap
    patch, overlap = (roi, roi, 1 if planar else roi), (twice, twice, 0 if planar else twice)
    coarse = tio.Subject(image=tio.ScalarImage(tensor=torch.from_numpy(voxels)[None]))
    sampler = tio.GridSampler(coarse, patch, overlap)
    fine = [tuple(n * f for n, f in zip(lengths, factor, strict=True)) for lengths in (voxels.shape, patch, overlap)]
    aggregator = tio.GridAggregator(tio.GridSampler(subject(fine[0]), fine[1], fine[2]))
    with torch.inference_mode():
        for one in sampler:
            x = one["image"].data[None]
            y = network(x[..., 0])[..., None] if planar else network(x)
            aggregator.add_batch(y, one["location"][None] * torch.tensor(factor * 2))
    return np.asarray(aggregator.get_output_tensor()[0])


WAYS: dict[str, Callable[[Network, Voxels], Voxels]] = {
    "ours, float32": lambda network, voxels: ours(network, voxels, "float32")[0],
    "ours, auto": lambda network, voxels: ours(network, voxels, "auto")[0],
    "plain, whole": plain,
    "MONAI, overlap 0.25": lambda network, voxels: monai(network, voxels, 0.25),
    "MONAI, overlap 0.5": lambda network, voxels: monai(network, voxels, 0.5),
    "TorchIO, overlap 24": torchio,
}


def once(name: str, way: str, shape: Shape, wanted: Path) -> float:
    """One way in a process of its own, for its peak memory; gives how far it is from what is wanted, of its range."""
    found, whole = WAYS[way](network_of(name), volume(shape)), np.load(wanted, mmap_mode="r")
    return float(max(np.abs(mine - one).max() for mine, one in zip(found, whole, strict=True)) / np.ptp(whole))


def compare(name: str, shape: Shape, repeats: int, out: Path | None) -> None:
    """Prints the table of one network."""
    network, voxels = network_of(name), volume(shape)
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "whole.npy"
        np.save(wanted, plain(network, voxels))
        alone = {way: peak_of(once, name, way, shape, wanted) for way in WAYS}
    seconds = turns({way: partial(run, network, voxels) for way, run in WAYS.items()}, repeats)
    exact = seconds["ours, float32"]
    rows = [
        (way, f"{s:.2f}", f"{s / exact:.2f}", f"{s / seconds['ours, auto']:.2f}",
         f"{s / voxels.size * 1e9:.0f}", f"{alone[way][0] / 2**20:.0f}", f"{alone[way][1]:.1e}")
        for way, s in seconds.items()
    ]  # fmt: skip
    settings = ", ".join(f"{key} {value}" for key, value in network.settings.items())
    print(f"\nedsr, {name} ({settings}), {' x '.join(map(str, shape))} voxels, {torch.get_num_threads()} threads\n")
    titles = ("way", "seconds", "over ours, float32", "over ours, auto", "ns/voxel", "peak MiB", "largest difference")
    print(table(titles, rows))
    _, outcome = ours(network, voxels, "auto")
    print(f"\nauto: {outcome.choice}; windows of {outcome.window}, {outcome.tiles} tiles", flush=True)
    if out:
        values = {way: s / exact for way, s in seconds.items()}
        bars(out / f"inference_{name}.png", f"edsr, {name}: time over ours in float32", "times", values)


def main() -> None:
    """Runs the comparison for a network of three axes and for one of two, on slices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=0.6, help="length of each axis, of 160 x 192 x 160")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=list(_NETWORKS), help="one of the networks")
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    asked = parser.parse_args()
    shape = tuple(max(32, int(n * asked.size)) for n in _LARGE)
    for name in [asked.only] if asked.only else list(_NETWORKS):
        compare(name, shape, asked.repeats, asked.out)


if __name__ == "__main__":
    main()
