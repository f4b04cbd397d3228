"""What a forward pass would take, found by a run on the meta device: nothing is computed and nothing allocated."""

from __future__ import annotations

import copy
import math
import weakref
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from geomedsr.grid import Shape
from geomedsr.inference.kernels import LARGE, is_judged

__all__ = ["Footprint", "footprint"]

_PROBE = 96
"""The length of the window that is looked at; activations grow with its voxels."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a forward pass takes for each voxel of its input.

    `peak` is the largest sum of live activations, in bytes, input and output included. `elements` is the least, over
    the convolutions that are judged by it, of the elements of its input that decide about its kernel, for each voxel
    of the window's first two axes (0: there is none).
    """

    peak: float
    elements: float

    def bytes(self, shape: Shape) -> int:
        """What a (B, C, *S) input takes."""
        return int(self.peak * shape[0] * math.prod(shape[2:]))

    def is_large(self, shape: Shape) -> bool:
        """Whether all layers of a (B, C, *S) input are large enough for the fast kernels."""
        return shape[0] > 1 or not self.elements or self.elements * math.prod(shape[2:4]) > LARGE


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that live, and looks at each convolution."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._live = 0
        self.elements: list[int] = []
        self._holders: Counter[int] = Counter()

    def hold(self, tensor: Tensor) -> None:
        """Counts a tensor until it dies; views of one storage count once."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if not self._holders[key]:
            self._live += size
            self.peak = max(self.peak, self._live)
        self._holders[key] += 1
        weakref.finalize(tensor, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._holders[key] -= 1
        if not self._holders[key]:
            self._live -= size

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        result = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.convolution.default:
            x, weight = args[0], args[1]
            if is_judged(tuple(weight.shape), args[8]):
                self.elements.append(math.prod(x.shape[:4]))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.hold(leaf)
        return result


def footprint(network: nn.Module, channels: int, ndim: int, multiple_of: int = 1) -> Footprint:
    """The footprint of a network in float32."""
    ghost = copy.deepcopy(network).to("meta").eval().requires_grad_(False)
    length = -(-_PROBE // multiple_of) * multiple_of
    watch = _Watch()
    # Not inference_mode: there a convolution reaches the watch under a name for each number of axes.
    with torch.no_grad(), watch:
        x = torch.empty((1, channels, *(length,) * ndim), device="meta")
        y = ghost(x)
        del x, y
    return Footprint(watch.peak / length**ndim, min(watch.elements, default=0) / length**2)
