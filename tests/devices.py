"""A stand-in for a GPU: tensors on torch's meta device, and a watch that fails where one meets a tensor of the host.

An operation on a GPU takes tensors of that GPU alone, save numbers; a test on the CPU never shows where one does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["ELSEWHERE", "DeviceWatch", "Elsewhere"]

ELSEWHERE = torch.device("meta")

_COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}
"""What may go from one device to another."""


class Elsewhere(torch.Generator):
    """A generator that says that it is not on the host."""

    @property
    def device(self) -> torch.device:
        """The stand-in."""
        return ELSEWHERE


class DeviceWatch(TorchDispatchMode):
    """Fails where an operation meets tensors of both devices. `sent` counts the tensors that were copied over."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """The operation, when it may be done."""
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        numbers = torch.Tag.pointwise in func.tags
        devices = {one.device for one in tensors if not (numbers and one.ndim == 0 and one.device.type == "cpu")}
        if func not in _COPIES and len(devices) > 1:
            raise AssertionError(f"{func} meets tensors of {', '.join(sorted(map(str, devices)))}")
        found = func(*args, **kwargs)
        if isinstance(found, Tensor) and found.device == ELSEWHERE and torch.device("cpu") in devices:
            self.sent += 1
        return found
