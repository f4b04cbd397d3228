"""What runs a network: one small seam, so that another runtime is another class."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from geomedsr.errors import GeomedsrError
from geomedsr.grid import Factor
from geomedsr.image import Voxels
from geomedsr.inference.cuda import CudaGear, one_algorithm
from geomedsr.inference.footprint import Footprint, footprint
from geomedsr.inference.kernels import OneKernel
from geomedsr.inference.memory import available, devices_of
from geomedsr.inference.relay import Fleet, Relay
from geomedsr.inference.rolling import Rolling, Step, kept_bytes, steps_of
from geomedsr.inference.tail import join_tail
from geomedsr.networks._network import Network

__all__ = ["BACKENDS", "PRECISIONS", "Backend", "TorchBackend", "find_device", "kind_of"]

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

    @property
    def relay(self) -> Fleet | None:
        """What feeds it tile by tile, where that is not `run`."""
        ...

    def run(self, batch: Voxels) -> Voxels:
        """(B, C, *S) float32 to (B, C, *(S * factor)) float32."""
        ...


def find_device(name: str) -> str:
    """The device that a name means here; `auto` is the GPU where torch finds one. Several GPUs, divided by commas,
    share a job; `cuda` is all of them.

    Raises:
        GeomedsrError: torch does not know it, or this machine does not have it.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    several = name.split(",")
    if len(several) > 1 and (len(set(several)) < len(several) or not all(one.startswith("cuda:") for one in several)):
        raise GeomedsrError(f"Several devices are different GPUs, such as cuda:0,cuda:1; got {name}.")
    for one in several:
        _check_device(one)
    return name


def kind_of(device: str) -> str:
    """What decides about the bits of a device that was found.

    Example:
        >>> kind_of("cuda:0,cuda:1")
        'cuda'
    """
    return device.partition(":")[0]


def _check_device(name: str) -> None:
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


class TorchBackend:
    """torch, eager; on GPUs, tiles of one shape are replayed (see `relay`).

    Convolutions run channels last: on the CPU 1.6 to 2 times as fast as in torch's default order, which oneDNN
    reorders before and after each layer; and the last layers are one, where they can be. The caller's network is left
    as it is. `relay` is what feeds GPUs (None: it runs elsewhere).
    """

    name = "torch"

    def __init__(
        self,
        network: Network,
        device: str = "cpu",
        precision: str = "float32",
        tell: Callable[[str], None] | None = None,
    ) -> None:
        if precision not in PRECISIONS:
            raise GeomedsrError(f"The precision '{precision}' is not known; known are {', '.join(PRECISIONS)}.")
        self.device, self.precision, self.tell = find_device(device), precision, tell
        task = network.task
        joined = join_tail(copy.deepcopy(network).cpu().eval().requires_grad_(False))
        self._footprint = footprint(joined, task.channels, task.ndim, network.multiple_of)
        self._format = _memory_format(network, self.device)
        devices = devices_of(self.device)
        copies = [joined, *(copy.deepcopy(joined) for _ in devices[1:])]
        self._networks = {one: copied.to(one) for one, copied in zip(devices, copies, strict=True)}
        for copied in copies:
            copied.to(memory_format=self._format)  # type: ignore[call-overload]
        relays = [self._relay(one) for one in devices if one.startswith("cuda")]
        self.relay = Fleet(relays) if relays else None

    @property
    def footprint(self) -> Footprint:
        """What a forward pass takes, in float32: bfloat16 never takes more."""
        return self._footprint

    def available(self) -> int:
        """Bytes at hand on the device."""
        return available(self.device)

    def run(self, batch: Voxels) -> Voxels:
        """The finer batch."""
        device = next(iter(self._networks))
        with torch.inference_mode():
            x = torch.from_numpy(batch).to(device).contiguous(memory_format=self._format)
            return np.asarray(self.forward(x, device).cpu().numpy())

    def forward(self, x: Tensor, device: str) -> Tensor:
        """The finer batch of one that lies on a device, in float32."""
        with self._context():
            y: Tensor = self._networks[device](x)
            return y.float()

    def _relay(self, device: str) -> Relay:
        task = next(iter(self._networks.values())).task
        forward = partial(self.forward, device=device)
        return Relay(CudaGear(device), forward, self._format, task.factor, tell=self.tell)

    @property
    def _one(self) -> Network:
        """The network, on the first of its devices."""
        return next(iter(self._networks.values()))

    @property
    def factor(self) -> Factor:
        """How many times finer the network's axes become."""
        return self._one.task.factor

    @cached_property
    def _steps(self) -> dict[int, tuple[Step, ...] | None]:
        """The layers by rows along each axis of a batch; None: it does not work by rows along it."""
        able = self.device == "cpu" and self._one.multiple_of == 1
        axes = range(2, 2 + self._one.task.ndim)
        return {axis: steps_of(self._one, axis) if able else None for axis in axes}

    @property
    def rolls(self) -> bool:
        """Whether it can work along every axis by rows (see `rolling`)."""
        return None not in self._steps.values()

    @cached_property
    def carried(self) -> float:
        """Bytes that the layers keep between two feeds, for each voxel of a row, in float32."""
        return kept_bytes(self._one)

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
        kind = torch.device(self.device.split(",")[0]).type
        # What was cast is not kept: a recording would remember where it lay.
        half = torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bf16", cache_enabled=False)
        one = OneKernel() if kind == "cpu" else one_algorithm()
        with torch.inference_mode(), half, one:
            yield


def _memory_format(network: Network, device: str) -> torch.memory_format:
    convolves = any(parameter.ndim == network.task.ndim + 2 for parameter in network.parameters())
    if not convolves or device == "mps":
        return torch.contiguous_format
    return torch.channels_last if network.task.ndim == 2 else torch.channels_last_3d
