"""Which backend and precision a job should have: what was asked for, or what is found fastest on a piece of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from geomedsr.errors import GeomedsrError
from geomedsr.image import Voxels
from geomedsr.inference.backend import BACKENDS, PRECISIONS, Backend, TorchBackend, find_device
from geomedsr.inference.openvino_backend import OpenvinoBackend, is_installed
from geomedsr.networks._network import Network

__all__ = ["CHOICES", "LEAST_PSNR", "Choice", "check_asked", "choose", "psnr", "settled"]

CHOICES = ("auto", *PRECISIONS)
"""What may be asked for as precision."""

LEAST_PSNR = 60.0
"""In dB: what is further from float32 than this is never chosen by itself."""

_SHORTEST = 4.0
"""Seconds in float32 below which a job is done before a measurement has paid for itself."""

_SHORTEST_CONVERTED = 12.0
"""The same for OpenVINO, which a network must be converted for first."""

_LONG_ENOUGH = 0.25
"""Seconds that a piece should take, to be measured well."""

_ROUNDS = 3

_EXTREMES = {math.inf: "the same values", -math.inf: "but not all of its values are finite"}

_FIRST_PIECE = 1 << 14
"""Voxels that are tried first for a piece, and how many times more next."""
_MORE = 4


@dataclass(frozen=True, slots=True)
class Choice:
    """What a job runs with, and why. `speedup` is against torch's float32 on a piece of the job, `psnr` (dB, inf:
    the same, -inf: not all finite) from it; both are None where nothing was measured. `refused` is why what could have
    been faster was not to be had, a sentence (empty: nothing was refused).
    """

    backend: str
    precision: str
    speedup: float | None = None
    psnr: float | None = None
    refused: str = ""

    def __str__(self) -> str:
        if self.speedup is None or self.psnr is None:
            return f"{self.precision} with {self.backend}"
        distance = _EXTREMES.get(self.psnr, f"{self.psnr:.1f} dB from it (PSNR)")
        return (
            f"{self.precision} with {self.backend}: {self.speedup:.1f} times as fast as torch's float32 on a piece "
            f"of this image, {distance}"
        )


def check_asked(backend: str, precision: str, device: str) -> None:
    """Refuses here what would fail only when the work starts.

    Raises:
        GeomedsrError: there is no such choice, or it is not to be had on this machine or device.
    """
    if backend not in ("auto", *BACKENDS):
        raise GeomedsrError(f"The backend '{backend}' is not known; known are auto, {', '.join(BACKENDS)}.")
    if precision not in CHOICES:
        raise GeomedsrError(f"The precision '{precision}' is not known; known are {', '.join(CHOICES)}.")
    if backend == "openvino" and find_device(device) != "cpu":
        raise GeomedsrError(f"OpenVINO runs on the CPU here; the device {device} was asked for. Use --backend torch.")
    if backend == "openvino" and not is_installed():
        raise GeomedsrError("OpenVINO is not installed here; install geomedsr[openvino], or use --backend torch.")


def settled(backend: str, precision: str) -> Choice | None:
    """What is taken without measuring anything, or None where something is left open."""
    if "auto" not in (backend, precision) or (backend, precision) == ("auto", "float32"):
        return Choice("torch" if backend == "auto" else backend, precision)
    return None


def choose(
    network: Network, exact: TorchBackend, backend: str, precision: str, voxels: int, piece: Callable[[], Voxels]
) -> tuple[Backend, Choice]:
    """The backend for a job of so many `voxels` that the network sees, and what it was chosen by.

    `exact` is torch's float32. A backend and a precision that are both given are taken as they are; so is float32
    without a backend, which means torch's, the one that tiles cannot be seen in. Of what is left open, the fastest
    counts that is at least `LEAST_PSNR` from float32 on a piece of the job, a batch that `piece` gives; a job that is
    too short for measuring gets float32.

    Raises:
        GeomedsrError: what was asked for is not to be had.
    """
    check_asked(backend, precision, exact.device)
    if (known := settled(backend, precision)) is not None:
        return _make(network, exact, known.backend, known.precision), known
    batch, seconds = _piece(exact, piece(), network.multiple_of)
    left = seconds / batch.size * voxels * network.task.channels
    candidates = list(_candidates(exact, backend, precision, left))
    if len(candidates) == 1:
        return _make(network, exact, *candidates[0]), Choice(*candidates[0])
    return _fastest(network, exact, batch, candidates, bound=LEAST_PSNR if precision == "auto" else -math.inf)


def _candidates(exact: TorchBackend, backend: str, precision: str, left: float) -> Iterator[tuple[str, str]]:
    """What may be measured, the one that is taken when none is better first; `left` is the job in seconds."""
    precisions = ("float32", "bf16") if precision == "auto" else (precision,)
    if precision == "auto" and left < _SHORTEST:
        precisions = ("float32",)
    names: tuple[str, ...] = (backend,)
    if backend == "auto":
        converts = exact.device == "cpu" and is_installed() and left >= _SHORTEST_CONVERTED
        names = BACKENDS if converts else ("torch",)
    yield from ((name, kind) for name in names for kind in precisions)


def _make(network: Network, exact: TorchBackend, backend: str, precision: str) -> Backend:
    if backend == "openvino":
        return OpenvinoBackend(network, precision)
    return exact if precision == "float32" else TorchBackend(network, exact.device, precision, exact.tell)


def _fastest(
    network: Network, exact: TorchBackend, batch: Voxels, candidates: list[tuple[str, str]], bound: float
) -> tuple[Backend, Choice]:
    wanted = exact.run(batch)
    close: list[tuple[Backend, float]] = []
    refused = ""
    for name, precision in candidates:
        try:
            made = _make(network, exact, name, precision)
            distance = psnr(made.run(batch), wanted)
        except GeomedsrError as error:
            if (name, precision) == candidates[0]:
                raise
            refused = str(error)
            continue  # a network that OpenVINO cannot convert has torch
        if precision == "float32" or distance >= bound:
            close.append((made, distance))
    slow, *times = _race([exact, *(made for made, _ in close)], batch)
    seconds, (made, distance) = min(zip(times, close, strict=True), key=lambda pair: pair[0])
    return made, Choice(made.name, made.precision, slow / seconds, distance, refused)


def _race(backends: list[Backend], batch: Voxels) -> list[float]:
    """The least seconds of each, in turns: what else the machine does meanwhile then meets them all."""
    rounds = [[_seconds(backend, batch) for backend in backends] for _ in range(_ROUNDS)]
    return [min(times) for times in zip(*rounds, strict=True)]


def _piece(exact: TorchBackend, batch: Voxels, multiple: int) -> tuple[Voxels, float]:
    """As much of a batch as makes a measurement last, and how long it takes in float32."""
    size = _FIRST_PIECE
    while True:
        part = _middle(batch, size, multiple)
        exact.run(part)
        seconds = _seconds(exact, part)
        if seconds >= _LONG_ENOUGH or part.size == batch.size:
            return part, seconds
        size *= _MORE


def _middle(batch: Voxels, size: int, multiple: int) -> Voxels:
    """The middle of a batch, cut to about `size` voxels: fewer images first, then shorter axes.

    Shape: (B, C, *S) to the same or less
    """
    voxels = math.prod(batch.shape[2:])
    count = min(batch.shape[0], max(1, size // voxels))
    share = min(1.0, (size / voxels) ** (1 / (batch.ndim - 2)))
    step = math.lcm(16, multiple)
    lengths = [n if share == 1 else min(n, max(2 * step, int(n * share) // step * step)) for n in batch.shape[2:]]
    wanted = (count, batch.shape[1], *lengths)
    starts = [(n - w) // 2 for n, w in zip(batch.shape, wanted, strict=True)]
    return np.ascontiguousarray(batch[tuple(slice(a, a + w) for a, w in zip(starts, wanted, strict=True))])


def _seconds(backend: Backend, batch: Voxels) -> float:
    began = time.perf_counter()
    backend.run(batch)
    return time.perf_counter() - began


def psnr(found: Voxels, wanted: Voxels) -> float:
    """How near values are to those that are wanted; -inf where either are not all finite.

    Units: dB, of the range of what is wanted.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        error = float(np.mean(np.square(found.astype(np.float64) - wanted)))
        spread = float(np.ptp(wanted))
    if not math.isfinite(error):
        return -math.inf
    return math.inf if error == 0 else 10 * math.log10(max(spread, 1e-12) ** 2 / error)
