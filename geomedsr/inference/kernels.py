"""One kernel for every window: what keeps tiles bit for bit equal to the whole image on the CPU.

torch gives a float32 convolution to oneDNN or to a plain matrix product, by the size of its input: a batch of one
whose channels and first two axes have at most 20,480 elements takes the latter. That is up to eight times slower in
three axes, and rounds differently, so a small window would differ from a large one in the last bits. oneDNN's own
results do not depend on the window: not on its shape, its place, its batch, vector tails or the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from geomedsr.grid import Shape

__all__ = ["LARGE", "OneKernel", "is_judged"]

LARGE = 20480
"""Above so many elements oneDNN takes a convolution of one image."""

_CONVOLUTIONS = frozenset({torch.conv2d, torch.conv3d, torch.conv_transpose2d, torch.conv_transpose3d})


def is_judged(weight: Shape, groups: int) -> bool:
    """Whether the kernel of a convolution depends on its input's size; wide and grouped ones are oneDNN's anyway."""
    return groups == 1 and min(weight[-2:]) <= 3


class OneKernel(TorchFunctionMode):
    """Runs small convolutions beside themselves, as a batch of two, so that oneDNN takes them, too."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if function in _CONVOLUTIONS:
            x, weight, *more = args
            groups = more[4] if len(more) > 4 else kwargs.get("groups", 1)
            if x.shape[0] == 1 and math.prod(x.shape[:4]) <= LARGE and is_judged(tuple(weight.shape), groups):
                both: Tensor = function(torch.cat([x, x]), weight, *more, **kwargs)
                return both[:1]
        return function(*args, **kwargs)
