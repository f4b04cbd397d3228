"""What runs a network: one small seam, so that another runtime is another class."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from geomedsr.errors import GeomedsrError
from geomedsr.grid import Factor
from geomedsr.image import Voxels
from geomedsr.inference.footprint import Footprint, footprint
from geomedsr.inference.kernels import OneKernel
from geomedsr.inference.memory import available
from geomedsr.inference.rolling import Rolling, Step, kept_bytes, steps_of
from geomedsr.inference.tail import join_tail
from geomedsr.networks._network import Network

__all__ = ["BACKENDS", "PRECISIONS", "Backend", "TorchBackend", "find_device"]

BACKENDS = ("torch", "openvino")

PRECISIONS = ("float32", "bf16")
"""In torch's `float32` tiles give the whole image's bits, in OpenVINO's they agree to rounding. In `bf16` the layers
with weights work in bfloat16; the interpolation that they correct, and the sum, stay float32."""


class Backend(Protocol):
    """A network, ready to run on batches of one window shape or another."""

    name: str
    device: str
    precision: str

    @property
    def footprint(self) -> Footprint:
        """What a forward pass takes."""
        ...

    def available(self) -> int:
        """Bytes at hand for it."""
        ...

    def run(self, batch: Voxels) -> Voxels:
        """(B, C, *S) float32 to (B, C, *(S * factor)) float32."""
        ...


def find_device(name: str) -> str:
    """The device that a name means here; `auto` is the GPU where torch finds one.

    Raises:
        GeomedsrError: torch does not know it, or this machine does not have it.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise GeomedsrError(f"'{name}' is no device; use cpu, cuda, cuda:1 or mps.") from error
    missing = {
        "cpu": False,
        "cuda": not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count(),
        "mps": not torch.backends.mps.is_available(),
    }
    if missing.get(device.type, True):
        raise GeomedsrError(f"The device {name} was asked for, but torch cannot use one here; use cpu or auto.")
    return name


class TorchBackend:
    """torch, eager.

    Convolutions run channels last: on the CPU 1.6 to 2 times as fast as in torch's default order, which oneDNN
    reorders before and after each layer; and the last layers are one, where they can be. The caller's network is left
    as it is.
    """

    name = "torch"

    def __init__(self, network: Network, device: str = "cpu", precision: str = "float32") -> None:
        if precision not in PRECISIONS:
            raise GeomedsrError(f"The precision '{precision}' is not known; known are {', '.join(PRECISIONS)}.")
        self.device, self.precision = find_device(device), precision
        task = network.task
        self._network = join_tail(copy.deepcopy(network).cpu().eval().requires_grad_(False))
        self._footprint = footprint(self._network, task.channels, task.ndim, network.multiple_of)
        self._format = _memory_format(network, self.device)
        self._network.to(self.device)
        self._network.to(memory_format=self._format)  # type: ignore[call-overload]

    @property
    def footprint(self) -> Footprint:
        """What a forward pass takes, in float32: bfloat16 never takes more."""
        return self._footprint

    def available(self) -> int:
        """Bytes at hand on the device."""
        return available(self.device)

    def run(self, batch: Voxels) -> Voxels:
        """The finer batch."""
        x = torch.from_numpy(batch)
        with self._context():
            y: Tensor = self._network(x.to(self.device).contiguous(memory_format=self._format))
            y = y.float().cpu()
        return np.asarray(y.numpy())

    @property
    def factor(self) -> Factor:
        """How many times finer the network's axes become."""
        return self._network.task.factor

    @cached_property
    def _steps(self) -> dict[int, tuple[Step, ...] | None]:
        """The layers by rows along each axis of a batch; None: it does not work by rows along it."""
        able = self.device == "cpu" and self._network.multiple_of == 1
        axes = range(2, 2 + self._network.task.ndim)
        return {axis: steps_of(self._network, axis) if able else None for axis in axes}

    @property
    def rolls(self) -> bool:
        """Whether it can work along every axis by rows (see `rolling`)."""
        return None not in self._steps.values()

    @cached_property
    def carried(self) -> float:
        """Bytes that the layers keep between two feeds, for each voxel of a row, in float32."""
        return kept_bytes(self._network)

    def rolling(self, axis: int) -> Rolling:
        """The network at the beginning of its way along an axis of the batch."""
        steps = self._steps[axis]
        assert steps is not None
        return Rolling(steps, axis)

    def feed(self, rolling: Rolling, rows: Voxels, ended: bool) -> Voxels | None:
        """The finer rows that these make possible, those of `Rolling.feed`."""
        with self._context():
            y = rolling.feed(torch.from_numpy(rows).contiguous(memory_format=self._format), ended)
            return None if y is None else np.asarray(y.float().numpy())

    @contextmanager
    def _context(self) -> Iterator[None]:
        kind = torch.device(self.device).type
        # TF32 rounds to ten bits: who asks for float32 does not mean that.
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=self.precision != "float32")
        half = torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bf16")
        one = OneKernel() if self.device == "cpu" else nullcontext()
        with torch.inference_mode(), exact, half, one:
            yield


def _memory_format(network: Network, device: str) -> torch.memory_format:
    convolves = any(parameter.ndim == network.task.ndim + 2 for parameter in network.parameters())
    if not convolves or device == "mps":
        return torch.contiguous_format
    return torch.channels_last if network.task.ndim == 2 else torch.channels_last_3d
