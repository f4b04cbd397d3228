"""Ours against the field's usual ways to apply a network to a volume: same network, weights, voxels and machine.

- ours: the stream, from memory to memory, in exact float32, and as `--precision auto` chooses for 160 x 192 x 160.
- MONAI: `sliding_window_inference` with windows of 96, gaussian blending, overlap 0.25 (its default) and 0.5.
- TorchIO: `GridSampler` and `GridAggregator`, patches of 96 that overlap by 24, cropped (its default).
- plain: torch's eager float32, the network on the whole volume in one call.

All take turns in one run. Peak memory is that of a process that does nothing else. To end within minutes, the volume is
a part of 160 x 192 x 160: with three axes all lengths and all windows are `--size` of theirs, so that there are as many
windows; slices are whole, and few. The first difference is that from the whole volume in one call with the same kernels
(ours: channels last and the last layers joined; theirs: plain), of its range: what windows do to the values.

    python -m benchmarks.inference --out pictures
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks._bench import bars, peak_of, table, trained, turns
from geomedsr.grid import Shape
from geomedsr.image import Image, Voxels
from geomedsr.inference.backend import TorchBackend
from geomedsr.inference.choice import psnr
from geomedsr.inference.upscaler import Outcome, Upscaler
from geomedsr.networks import edsr
from geomedsr.networks._network import Network
from geomedsr.task import Task

_LARGE = (160, 192, 160)
_ROI, _OVERLAP = 96, 24
_SLICES = 4
_WHOLE = {True: "backend.npy", False: "plain.npy"}
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


def upscaler_of(network: Network, precision: str) -> Upscaler:
    """The stream; what `auto` leaves open is settled as for the large volume."""
    upscaler = Upscaler(network, None, precision=precision, axes=tuple(range(network.task.ndim)))
    if precision == "auto":
        source = Image.of(volume(_LARGE)[None])
        upscaler.chosen_for(source, source.spec.upscaled(upscaler.factor_for(source.spec)))
    return upscaler


def ours(upscaler: Upscaler, voxels: Voxels) -> tuple[Voxels, Outcome]:
    """From memory to memory."""
    source = Image.of(voxels[None])
    sink = Image.empty(source.spec.upscaled(upscaler.factor_for(source.spec)))
    outcome = upscaler.run(source, sink)
    return sink.voxels[0], outcome


def whole(network: Network, voxels: Voxels) -> Voxels:
    """The backend of the stream on the whole volume in one call, all slices as one batch."""
    backend = TorchBackend(network)
    if network.task.ndim == 3:
        return np.asarray(backend.run(voxels[None, None])[0, 0])
    batch = np.ascontiguousarray(np.moveaxis(voxels, 2, 0)[:, None])
    return np.moveaxis(backend.run(batch)[:, 0], 0, 2)


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


OURS = {"ours, float32": "float32", "ours, auto": "auto"}

THEIRS: dict[str, Callable[[Network, Voxels], Voxels]] = {
    "plain, whole": plain,
    "MONAI, overlap 0.25": lambda network, voxels: monai(network, voxels, 0.25),
    "MONAI, overlap 0.5": lambda network, voxels: monai(network, voxels, 0.5),
    "TorchIO, overlap 24": torchio,
}


def ready(name: str, way: str, voxels: Voxels) -> Callable[[], Voxels]:
    """A way, ready to be run."""
    network = network_of(name)
    if way in OURS:
        upscaler = upscaler_of(network, OURS[way])
        return lambda: ours(upscaler, voxels)[0]
    return lambda: THEIRS[way](network, voxels)


def once(name: str, way: str, shape: Shape, folder: Path) -> tuple[float, float]:
    """One way in a process of its own, for its peak memory; gives how far it is from the whole volume in one call with
    the same kernels (the largest difference, of the range), and from plain torch (PSNR).
    """
    found = ready(name, way, volume(shape))()
    same, eager = (np.load(folder / file) for file in (_WHOLE[way in OURS], _WHOLE[False]))
    return float(np.abs(found - same).max() / np.ptp(same)), psnr(found, eager)


def compare(name: str, shape: Shape, repeats: int, out: Path | None) -> None:
    """Prints the table of one network."""
    network, voxels = network_of(name), volume(shape)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        np.save(folder / _WHOLE[False], plain(network, voxels))
        np.save(folder / _WHOLE[True], whole(network, voxels))
        alone: dict[str, Any] = {way: peak_of(once, name, way, shape, folder) for way in (*OURS, *THEIRS)}
    seconds = turns({way: ready(name, way, voxels) for way in alone}, repeats)
    rows = []
    for way, spent in seconds.items():
        peak, (difference, distance) = alone[way]
        ratios = (f"{spent / seconds[mine]:.2f}" for mine in OURS)
        rows.append((way, f"{spent:.2f}", *ratios, f"{spent / voxels.size * 1e9:.0f}", f"{peak / 2**20:.0f}",
                     f"{difference:.1e}", f"{distance:.1f}"))  # fmt: skip
    settings = ", ".join(f"{key} {value}" for key, value in network.settings.items())
    print(f"\nedsr, {name} ({settings}), {' x '.join(map(str, shape))} voxels, {torch.get_num_threads()} threads\n")
    titles = ("way", "seconds", "over ours, float32", "over ours, auto", "ns/voxel", "peak MiB",
              "from the whole in one call", "PSNR from plain / dB")  # fmt: skip
    print(table(titles, rows))
    for precision in OURS.values():
        _, outcome = ours(upscaler_of(network, precision), voxels)
        print(f"\n{precision}: {outcome.choice}; windows of {outcome.window}, {outcome.tiles} tiles", flush=True)
    if out:
        values = {way: spent / seconds["ours, float32"] for way, spent in seconds.items()}
        bars(out / f"inference_{name}.png", f"edsr, {name}: time over ours in float32", "times", values)


def main() -> None:
    """Runs the comparison for a network of three axes and for one of two, on slices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=0.4, help="length of each axis in 3D, of 160 x 192 x 160")
    parser.add_argument("--slices", type=int, default=_SLICES, help="how many slices of 160 x 192")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=list(_NETWORKS), help="one of the networks")
    parser.add_argument("--out", type=Path, help="folder for the pictures")
    asked = parser.parse_args()
    shapes = {"3D": tuple(max(32, int(n * asked.size)) for n in _LARGE), "slices": (*_LARGE[:2], asked.slices)}
    for name in [asked.only] if asked.only else list(_NETWORKS):
        compare(name, shapes[name], asked.repeats, asked.out)


if __name__ == "__main__":
    main()
