"""How fast this machine is: a short measurement, whose figures one machine's can be compared with another's."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from geomedsr.errors import GeomedsrError
from geomedsr.image import Voxels

__all__ = ["benchmark", "benchmark_lines"]

_MODEL = "mri-t1-x2"
_SHAPE = (1, 1, 192, 192)
_SECONDS = 2.0
"""How long each backend is watched, about; at least one pass."""


def benchmark() -> list[dict[str, Any]]:
    """Each backend and precision to be had here, on one network: voxels of the input a second, and the PSNR (dB)
    between its result and exact float32's (None: the same voxels).
    """
    from geomedsr.inference.backend import TorchBackend
    from geomedsr.run.catalogue import load_model

    network = load_model(_MODEL).network
    batch = _image()
    wanted = TorchBackend(network).run(batch)
    with tempfile.TemporaryDirectory() as scratch:  # a network that is converted for this is not kept
        return list(_rows(network, batch, wanted, scratch))


def _rows(network: Any, batch: Voxels, wanted: Voxels, scratch: str) -> Iterator[dict[str, Any]]:  # noqa: ANN401
    from geomedsr.inference.backend import PRECISIONS, TorchBackend, find_device
    from geomedsr.inference.choice import psnr
    from geomedsr.inference.openvino_backend import OpenvinoBackend, is_installed

    devices = ["cpu"] if find_device("auto") == "cpu" else ["cpu", "cuda"]
    asked = [("torch", device, precision) for device in devices for precision in PRECISIONS]
    if is_installed():
        asked += [("openvino", "cpu", precision) for precision in PRECISIONS]
    for name, device, precision in asked:
        row: dict[str, Any] = {"backend": name, "device": device, "precision": precision}
        try:
            made = (
                TorchBackend(network, device, precision)
                if name == "torch"
                else OpenvinoBackend(network, precision, folder=scratch)
            )
            distance = psnr(made.run(batch), wanted)
        except (GeomedsrError, OSError) as error:
            yield {**row, "error": str(error)}
            continue
        yield {**row, "voxels_per_second": round(_rate(made, batch)), "psnr_to_float32": _finite(distance)}


def _image() -> Voxels:
    i, j = np.ogrid[: _SHAPE[2], : _SHAPE[3]]
    noise = np.random.default_rng(0).normal(0, 0.03, _SHAPE)
    return np.asarray(0.5 + 0.4 * np.sin(i / 9) * np.cos(j / 7) + noise, np.float32)


def _rate(backend: Any, batch: Voxels) -> float:  # noqa: ANN401
    times: list[float] = []
    while sum(times) < _SECONDS:
        began = time.perf_counter()
        backend.run(batch)
        times.append(time.perf_counter() - began)
    return batch.size / min(times)


def _finite(value: float) -> float | None:
    return round(value, 1) if np.isfinite(value) else None


def benchmark_lines(rows: list[dict[str, Any]]) -> str:
    """The figures as a person reads them."""
    first = next((row["voxels_per_second"] for row in rows if "voxels_per_second" in row), 1)
    lines = [f"{'speed':<20} {_MODEL} on {_SHAPE[2]} x {_SHAPE[3]} voxels, {os.cpu_count()} processors"]
    for row in rows:
        name = f"{row['backend']} {row['precision']}" + ("" if row["device"] == "cpu" else f" {row['device']}")
        if "error" in row:
            lines.append(f"{name:<20} {row['error']}")
            continue
        distance = row["psnr_to_float32"]
        same = "the same values" if distance is None else f"{distance} dB from float32"
        rate = row["voxels_per_second"]
        lines.append(f"{name:<20} {rate / 1e6:.3f} million voxels/s, {rate / first:.1f} times, {same}")
    return "\n".join(lines)
