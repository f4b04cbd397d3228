"""What a layer makes of the rows that are at hand: the rules by which a network is worked through along one axis.

A row is a slice across that axis: a line of an image, a plane of a volume. A layer that looks `radius` rows to either
side gives a row as soon as that many behind it have come. Each rule gives the bits of the layer on the whole image.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomedsr.grid import Shape
from geomedsr.inference.kernels import PLAIN, interleaved, interleaves, looks_of
from geomedsr.inference.tail import JoinedTail, inner_rows, without
from geomedsr.networks._blocks import PixelShuffle

__all__ = ["LEAVES", "POINTWISE", "Rule", "UnruledError", "layer_rule", "local_rule", "pointwise_rule"]

Run = Callable[[Sequence[Tensor], int, int], Tensor]
"""The rows that a layer gives; the numbers say how many of those it looks at are missing before and after, because
the image ends there."""

LEAVES = (PixelShuffle, JoinedTail)
"""Modules that have a rule as a whole, besides torch's own."""


class UnruledError(Exception):
    """A layer has no rule: its network is not worked through by rows."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A layer by rows: it looks at `radius` more on either side, and makes `factor` rows of each.

    `into`, where there is one, writes what `run` would give into rows that are there already.
    """

    run: Run
    radius: int = 0
    factor: int = 1
    into: Callable[[Sequence[Tensor], Tensor], object] | None = field(default=None)


def _relu(x: Tensor, inplace: bool = False, *, out: Tensor) -> None:
    torch.clamp_min(x, 0, out=out)


def _leaky_relu(x: Tensor, negative_slope: float = 0.01, inplace: bool = False, *, out: Tensor) -> None:
    torch.ops.aten.leaky_relu.out(x, negative_slope, out=out)


POINTWISE: dict[Callable[..., Any], Callable[..., object] | None] = {
    operator.add: torch.add,
    operator.sub: torch.sub,
    operator.mul: torch.mul,
    operator.truediv: torch.div,
    functional.relu: _relu,
    functional.leaky_relu: _leaky_relu,
    torch.tanh: torch.tanh,
    torch.cat: None,
    functional.batch_norm: None,
}
"""What sees one voxel at a time, and what does the same into a tensor that is there."""


def pointwise_rule(function: Callable[..., Any], called: Callable[[Callable[..., Any], Sequence[Tensor]], Any]) -> Rule:
    """The rule of a pointwise function; `called` calls one with all its arguments, of which some are the tensors."""
    written = POINTWISE[function]

    def into(tensors: Sequence[Tensor], out: Tensor) -> None:
        assert written is not None
        called(lambda *args, **named: written(*args, **named, out=out), tensors)

    def run(tensors: Sequence[Tensor], *_: int) -> Tensor:
        # Rows cut out of a tensor with gaps between them are summed up and scaled by other formulas.
        order = torch.channels_last if tensors[0].ndim == 4 else torch.channels_last_3d
        y: Tensor = called(function, [tensor.contiguous(memory_format=order) for tensor in tensors])
        return y

    return Rule(run, into=into if written else None)


def local_rule(function: Callable[[Tensor], Tensor], radius: int, factor: int, axis: int) -> Rule:
    """The rule of a layer that looks around: it runs on all rows, and those that lack neighbours are cut off."""

    def run(tensors: Sequence[Tensor], before: int, after: int) -> Tensor:
        return inner_rows(function(tensors[0]), axis, (radius - before) * factor, (radius - after) * factor)

    return Rule(run, radius, factor)


def layer_rule(module: nn.Module, axis: int) -> Rule:
    """The rule of a module; `axis` is the tensor's.

    Raises:
        UnruledError: there is none.
    """
    if isinstance(module, PixelShuffle):
        return Rule(lambda tensors, *_: module(tensors[0]), factor=module.factor[axis - 2])
    if isinstance(module, nn.PReLU | nn.Identity):
        return Rule(lambda tensors, *_: module(tensors[0]))
    if isinstance(module, JoinedTail):
        return _tail_rule(module, axis)
    if isinstance(module, nn.Conv2d | nn.Conv3d) and _keeps_the_shape(module):
        return _convolution_rule(module, axis)
    if isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d):
        return _transposed_rule(module, axis)
    raise UnruledError(type(module).__name__)


def _keeps_the_shape(layer: nn.Conv2d | nn.Conv3d) -> bool:
    centred = all(k % 2 and p == k // 2 for k, p in zip(layer.kernel_size, _numbers(layer.padding), strict=True))
    return centred and {*layer.stride, *layer.dilation} == {1} and layer.padding_mode == "zeros"


def _numbers(padding: str | Shape) -> Shape:
    return () if isinstance(padding, str) else padding


def _convolution_rule(layer: nn.Conv2d | nn.Conv3d, axis: int) -> Rule:
    ndim, padding = len(layer.kernel_size), _numbers(layer.padding)
    whole, bare = local_rule(layer, padding[axis - 2], 1, axis), without(padding, axis)

    def run(tensors: Sequence[Tensor], before: int, after: int) -> Tensor:
        if before or after:
            return whole.run(tensors, before, after)
        y: Tensor = PLAIN[ndim](tensors[0], layer.weight, layer.bias, 1, bare, 1, layer.groups)
        return y

    return Rule(run, whole.radius)


def _transposed_rule(layer: nn.ConvTranspose2d | nn.ConvTranspose3d, axis: int) -> Rule:
    arguments = (layer.weight, layer.bias, layer.stride, _numbers(layer.padding))
    if not interleaves(layer.weight, *arguments, _numbers(layer.output_padding), layer.groups, layer.dilation):
        raise UnruledError(type(layer).__name__)

    def convolve(function: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: Shape) -> Tensor:  # noqa: ANN401
        y: Tensor = function(x, weight, bias, stride, without(padding, axis))
        return y

    radius = looks_of(layer.kernel_size, layer.stride, _numbers(layer.padding))[axis - 2]
    whole = local_rule(layer, radius, layer.stride[axis - 2], axis)

    def run(tensors: Sequence[Tensor], before: int, after: int) -> Tensor:
        if before or after:
            return whole.run(tensors, before, after)
        return interleaved(convolve, tensors[0], *arguments)

    return Rule(run, whole.radius, whole.factor)


def _tail_rule(tail: JoinedTail, axis: int) -> Rule:
    if tail.look[axis - 2] > 1:
        raise UnruledError("an end that looks further than a voxel")  # its first rows would come in several pieces
    return Rule(
        lambda tensors, before, after: tail.rows(tensors[0], axis, before, after),
        tail.weight.shape[axis] // 2,
        tail.shuffle.factor[axis - 2],
    )
