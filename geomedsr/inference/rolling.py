"""A network worked through row by row: each layer keeps the few rows that it still looks at, and none is made twice.

Tiles with a halo compute their overlap again in every layer; for a deep network that is a tenth to half of all work,
and more memory is the only remedy. Rows that come one after the other have no overlap, and the memory is that of a few
rows in each layer. What is given are the bits of the whole image: the same sums, in the same order (see `rows`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, fx, nn

from geomedsr.inference.rows import LEAVES, POINTWISE, Rule, UnruledError, layer_rule, local_rule, pointwise_rule
from geomedsr.networks._blocks import repeat_voxels
from geomedsr.networks._network import Network
from geomedsr.networks.interpolate import KERNELS, upsample

__all__ = ["Rolling", "Step", "kept_bytes", "steps_of"]

_PROBE = 24
"""The length of a row that is looked at; what is kept grows with its voxels."""


@dataclass(frozen=True, slots=True)
class Step:
    """A layer, and the numbers of those whose rows it takes; the network's input is number 0, the first step 1."""

    rule: Rule
    inputs: tuple[int, ...]


def steps_of(network: Network, axis: int) -> tuple[Step, ...] | None:
    """The network's layers in their order, along one of its tensors' axes; None where a layer has no rule.

    The rows of the last step are the output.
    """
    try:
        return tuple(_steps(network, _Tracer().trace(network), axis))
    except Exception:  # noqa: BLE001 - whatever a network does that cannot be recorded, or has no rule
        return None


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        super().__init__(autowrap_functions=(upsample, repeat_voxels))

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAVES) or super().is_leaf_module(m, module_qualified_name)


def _steps(network: Network, graph: fx.Graph, axis: int) -> Iterator[Step]:
    numbers: dict[fx.Node, int] = {}
    constants: dict[fx.Node, Any] = {}
    last = 0
    for node in graph.nodes:
        if node.op == "get_attr":
            constants[node] = _attribute(network, node.target)
        elif node.op == "output":
            if [numbers.get(one) for one in node.all_input_nodes] != [last]:
                raise UnruledError("an output that is not the last layer's")
        else:
            if node.op != "placeholder":
                inputs = [one for one in node.all_input_nodes if one in numbers]
                yield Step(_rule(network, node, inputs, constants, axis), tuple(numbers[one] for one in inputs))
                last += 1
            numbers[node] = last


def _attribute(network: Network, target: object) -> Any:  # noqa: ANN401
    return reduce(getattr, str(target).split("."), network)


def _rule(network: Network, node: fx.Node, inputs: list[fx.Node], constants: dict[fx.Node, Any], axis: int) -> Rule:
    if node.op == "call_module":
        return layer_rule(network.get_submodule(str(node.target)), axis)
    arguments: Any = node.args
    if node.target is upsample:
        _, kernel, factor = arguments
        radius = KERNELS[kernel][1] if factor[axis - 2] > 1 else 0
        return local_rule(lambda x: upsample(x, kernel, factor), radius, factor[axis - 2], axis)
    if node.target is repeat_voxels:
        _, factor = arguments
        return local_rule(lambda x: repeat_voxels(x, factor), 0, factor[axis - 2], axis)
    if node.op != "call_function" or node.target not in POINTWISE:
        raise UnruledError(str(node.target))

    def called(function: Callable[..., Any], tensors: Sequence[Tensor]) -> Any:  # noqa: ANN401
        values = {**constants, **dict(zip(inputs, tensors, strict=True))}
        args, named = fx.map_arg((node.args, node.kwargs), values.__getitem__)
        return function(*args, **named)

    return pointwise_rule(node.target, called)


def kept_bytes(network: Network, axis: int = 2) -> float:
    """What the layers keep from one feed to the next, for each voxel of a row across an axis.

    Found on the meta device, where nothing is computed.
    """
    steps = steps_of(copy.deepcopy(network).to("meta"), axis)
    assert steps is not None
    rolling, lengths = Rolling(steps, axis), [_PROBE] * network.task.ndim
    lengths[axis - 2] = 2 * max(network.reach or ()) + 8
    with torch.no_grad():
        rolling.feed(torch.empty((1, network.task.channels, *lengths), device="meta"), ended=False)
    return rolling.kept / float(_PROBE ** (network.task.ndim - 1))


class _Line:
    """The rows of a layer that others still look at: those from `start` on, before `stop`."""

    def __init__(self, axis: int) -> None:
        self.start = self.stop = 0
        self._axis = axis
        self._held: Tensor | None = None

    def rows(self, start: int, stop: int) -> Tensor:
        """Some of them, a view."""
        assert self._held is not None
        return self._held.narrow(self._axis, start - self.start, stop - start)

    def append(self, rows: Tensor) -> None:
        """Takes the rows that follow."""
        self.stop += rows.shape[self._axis]
        self._held = rows if self._held is None else torch.cat([self._held, rows], self._axis)

    def room(self, like: Tensor, count: int, dtype: torch.dtype) -> Tensor:
        """Room for the rows that follow, to be written into: so they lie behind those that are held, uncopied."""
        held = self._held
        before = 0 if held is None else held.shape[self._axis]
        shape = [*like.shape]
        shape[self._axis] = before + count
        order = torch.channels_last if like.ndim == 4 else torch.channels_last_3d
        self._held = torch.empty(shape, dtype=dtype, device=like.device, memory_format=order)
        if held is not None:
            self._held.narrow(self._axis, 0, before).copy_(held)
        self.stop += count
        return self._held.narrow(self._axis, before, count)

    @property
    def bytes(self) -> int:
        """What is held."""
        return 0 if self._held is None else self._held.nbytes

    def trim(self, start: int) -> None:
        """Lets go of the rows before `start`, and of the memory in which they lay."""
        if start <= self.start:
            return
        self._held = self.rows(start, self.stop).clone() if start < self.stop else None
        self.start = start


class Rolling:
    """A network on its way along one axis of an image."""

    def __init__(self, steps: Sequence[Step], axis: int) -> None:
        self._steps = steps
        self._lines = [_Line(axis) for _ in range(len(steps) + 1)]
        self._given = [0] * len(steps)
        self._axis = axis
        users: dict[int, list[int]] = {}
        for number, step in enumerate(steps):
            for source in step.inputs:
                users.setdefault(source, []).append(number)
        self._spent = [
            [source for source, those in users.items() if those[-1] == number] for number in range(len(steps))
        ]
        self._users = users

    def feed(self, rows: Tensor, ended: bool) -> Tensor | None:
        """The output's rows that the rows which follow make possible, or None; `ended`: no more will come."""
        self._lines[0].append(rows)
        for number, step in enumerate(self._steps):
            self._advance(number, step, ended)
            for source in self._spent[number]:
                self._lines[source].trim(min(self._looks_from(user) for user in self._users[source]))
        output = self._lines[-1]
        if output.stop == output.start:
            return None
        result = output.rows(output.start, output.stop)
        output.trim(output.stop)
        return result

    @property
    def kept(self) -> int:
        """The bytes that are held until the next rows come."""
        return sum(line.bytes for line in self._lines)

    def _looks_from(self, number: int) -> int:
        return max(0, self._given[number] - self._steps[number].rule.radius)

    def _advance(self, number: int, step: Step, ended: bool) -> None:
        rule, begin = step.rule, self._given[number]
        inputs = [self._lines[source] for source in step.inputs]
        have = min(line.stop for line in inputs)
        end = have if ended else have - rule.radius
        if end <= begin:
            return
        first, last = max(0, begin - rule.radius), min(have, end + rule.radius)
        tensors = [line.rows(first, last) for line in inputs]
        line, self._given[number] = self._lines[number + 1], end
        if rule.into is not None:
            like = max(tensors, key=Tensor.numel)
            dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
            rule.into(tensors, line.room(like, last - first, dtype))
        else:
            line.append(rule.run(tensors, rule.radius - (begin - first), rule.radius - (last - end)))
