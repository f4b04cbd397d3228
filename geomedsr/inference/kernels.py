"""One kernel for every window: what keeps tiles bit for bit equal to the whole image on the CPU.

Measured with torch 2.13 and oneDNN 3.12, on AVX2 and AVX512, with one thread and more: oneDNN's convolutions do not
depend on the window: not on its shape, its place, its batch, its vector tails, the memory format of its neighbours.
Two things do, and are put right here while a network runs on the CPU:

- torch gives a convolution of one image to oneDNN only if its channels and first two axes have more than 20,480
  elements, and to a plain matrix product otherwise, which rounds differently and is up to eight times slower in three
  axes. Small ones are handed to oneDNN itself. In bf16, and where a kernel is one voxel long, which oneDNN sums in
  another order when there are few voxels, they run beside themselves, as a batch of two.
- oneDNN's transposed convolution sums in an order that depends on the lengths of the axes. It becomes what it is: a
  convolution that gives all places inside an input voxel as channels, and their interleaving. That is faster as well,
  in bf16 and in other runtimes too: on one core fsrcnn's took 1.03 s in OpenVINO, and takes 0.05 s.

A network run outside of this agrees to rounding, not to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from geomedsr.grid import Shape

__all__ = ["LARGE", "PLAIN", "OneKernel", "interleaved", "interleaves", "is_judged", "looks_of"]

LARGE = 20480
"""Above so many elements oneDNN takes a convolution of one image."""

PLAIN = {2: torch.conv2d, 3: torch.conv3d}
_TRANSPOSED = frozenset({torch.conv_transpose2d, torch.conv_transpose3d})


def is_judged(weight: Shape, groups: int) -> bool:
    """Whether the kernel of a convolution depends on its input's size; wide and grouped ones are oneDNN's anyway."""
    return groups == 1 and min(weight[-2:]) <= 3


class OneKernel(TorchFunctionMode):
    """Makes each convolution take one kernel and one order of summing, whatever the window.

    With `doubles` false small convolutions stay single: what is recorded must not depend on the size of the example.
    """

    def __init__(self, doubles: bool = True) -> None:
        super().__init__()
        self._convolve = _convolve if doubles else _passed_on

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        if function in PLAIN.values():
            return self._convolve(function, *args, **kwargs)
        if function in _TRANSPOSED and interleaves(*args, **kwargs):
            return interleaved(self._convolve, *args[:5])
        return function(*args, **kwargs)


def _passed_on(function: Any, *args: Any, **named: Any) -> Tensor:  # noqa: ANN401
    result: Tensor = function(*args, **named)
    return result


def _convolve(function: Any, x: Tensor, weight: Tensor, *more: Any, **named: Any) -> Tensor:  # noqa: ANN401
    groups = more[4] if len(more) > 4 else named.get("groups", 1)
    small = x.shape[0] == 1 and math.prod(x.shape[:4]) <= LARGE and is_judged(tuple(weight.shape), groups)
    if small and min(weight.shape[2:]) > 1 and _is_direct(x, *more, **named):
        return _direct(x, weight, *more, **named)
    result: Tensor = function(torch.cat([x, x]) if small else x, weight, *more, **named)
    return result[:1] if small else result


def _is_direct(x: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, *_: Any, **__: Any) -> bool:  # noqa: ANN401
    """Whether oneDNN can be called by its own name."""
    plain = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu") and not isinstance(padding, str)
    return plain and bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _direct(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,  # noqa: ANN401
    padding: Any = 0,  # noqa: ANN401
    dilation: Any = 1,  # noqa: ANN401
    groups: int = 1,
) -> Tensor:
    """What torch calls for a convolution that is large, or one of a batch."""
    axes = x.ndim - 2
    around, steps, gaps = ([n] * axes if isinstance(n, int) else list(n) for n in (padding, stride, dilation))
    result: Tensor = torch.mkldnn_convolution(x, weight, bias, around, steps, gaps, groups)
    return result


def interleaves(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Shape,
    padding: Shape,
    output_padding: Shape,
    groups: int = 1,
    dilation: Shape = (1,),
) -> bool:
    """Whether a transposed convolution makes the image exactly `stride` times finer, which all its uses here do."""
    rows = zip(weight.shape[2:], stride, padding, output_padding, strict=True)
    return groups == 1 and set(dilation) == {1} and all(k - 2 * p + extra == s for k, s, p, extra in rows)


def looks_of(kernel: Shape, stride: Shape, padding: Shape) -> Shape:
    """How far a transposed convolution looks on each axis, in voxels of its input."""
    rows = zip(kernel, stride, padding, strict=True)
    return tuple(max((s - 1 + p) // s, (k - 1 - p) // s) for k, s, p in rows)


def interleaved(
    convolve: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor | None, stride: Shape, padding: Shape
) -> Tensor:
    """A transposed convolution as a convolution and an interleaving of its channels.

    Output voxel s q + phase gets x[q + d] times weight[phase + p - s d], for all d for which that exists.
    """
    ndim, kernel = len(stride), tuple(weight.shape[2:])
    looks = looks_of(kernel, stride, padding)
    taps = functional.pad(weight, (0, 1) * ndim)  # the tap behind the last is the one that does not exist
    for axis in reversed(range(ndim)):
        k, s, p, look = kernel[axis], stride[axis], padding[axis], looks[axis]
        wanted = [phase + p - s * d for phase in range(s) for d in range(-look, look + 1)]
        index = torch.tensor([t if 0 <= t < k else k for t in wanted], device=weight.device)
        taps = taps.index_select(axis + 2, index)
        taps = taps.reshape(*taps.shape[: axis + 2], s, 2 * look + 1, *taps.shape[axis + 3 :])
    phases, places = range(2, 2 + 2 * ndim, 2), range(3, 3 + 2 * ndim, 2)
    taps = taps.permute(1, *phases, 0, *places).flatten(0, ndim)
    biases = None if bias is None else bias.repeat_interleave(math.prod(stride))
    y = convolve(PLAIN[ndim], x, taps, biases, 1, looks)
    finer = [n * s for n, s in zip(y.shape[2:], stride, strict=True)]
    y = y.reshape(y.shape[0], weight.shape[1], *stride, *y.shape[2:])
    order = chain.from_iterable((2 + ndim + axis, 2 + axis) for axis in range(ndim))
    return y.permute(0, 1, *order).reshape(*y.shape[:2], *finer)
