"""SPAN: few wide convolutions and an attention without parameters. Fast for its quality (first at NTIRE 2024).

Reference: Wan et al. 2024, "Swift Parameter-free Attention Network for Efficient Super-Resolution", arXiv:2311.12770
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomedsr.networks._blocks import PixelShuffle, conv, full_precision, zero_
from geomedsr.networks._network import Network
from geomedsr.networks.interpolate import KERNELS, upsample
from geomedsr.task import Task

__all__ = ["SPAN", "MergedConv", "build"]


class MergedConv(nn.Module):
    """A 3-wide convolution that is learnt as a chain of 1-, 3- and 1-wide ones with a 1-wide one beside it.

    The chain is linear, so its kernels are multiplied into one and only one convolution runs, in training too.

    Shape: (B, inputs, *S) to (B, outputs, *S)
    Reference: Ding et al. 2021, arXiv:2103.13425 (a linear chain that is trained wide and runs as one convolution)
    """

    def __init__(self, ndim: int, inputs: int, outputs: int, gain: int = 2) -> None:
        super().__init__()
        self.expand = conv(ndim, inputs, gain * inputs, 1)
        self.mix = conv(ndim, gain * inputs, gain * outputs)
        self.reduce = conv(ndim, gain * outputs, outputs, 1)
        self.beside = conv(ndim, inputs, outputs, 1)

    def merged(self) -> tuple[Tensor, Tensor]:
        """The kernel and the bias of the one convolution.

        Shape: (outputs, inputs, 3, 3[, 3]) and (outputs,)
        """
        (expand, expand_bias), (mix, mix_bias) = _taps(self.expand), _taps(self.mix)
        (reduce, reduce_bias), (beside, beside_bias) = _taps(self.reduce), _taps(self.beside)
        taps = torch.einsum("om,mnk,ni->oik", reduce[..., 0], mix, expand[..., 0])
        middle = taps.shape[2] // 2
        taps = taps + functional.pad(beside, (middle, middle))
        bias = reduce[..., 0] @ (mix.sum(2) @ expand_bias + mix_bias) + reduce_bias + beside_bias
        return taps.reshape(*taps.shape[:2], *self.mix.kernel_size), bias

    def forward(self, x: Tensor) -> Tensor:
        """The convolution."""
        # Products of kernels are cheap, and their roundings would stay.
        with full_precision(x.device.type):
            weight, bias = self.merged()
        run = functional.conv2d if x.ndim == 4 else functional.conv3d
        return run(x, weight, bias, padding=1)


def _taps(layer: nn.Conv2d | nn.Conv3d) -> tuple[Tensor, Tensor]:
    assert layer.bias is not None
    return layer.weight.flatten(2), layer.bias


def _odd(x: Tensor) -> Tensor:
    """The sigmoid less a half, by way of a function whose bits do not depend on a voxel's place in memory.

    (PyTorch computes the sigmoid of the last few elements of a stretch by another formula than that of the others.)
    """
    return 0.5 * torch.tanh(0.5 * x)


def _silu(x: Tensor) -> Tensor:
    return x * (_odd(x) + 0.5)


class Block(nn.Module):
    """Three convolutions; their result attends to itself, by an odd function of it instead of learnt weights.

    Shape: (B, width, *S) to the same, and the features inside
    """

    def __init__(self, ndim: int, width: int, branches: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_conv(ndim, width, width, branches) for _ in range(3)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The features after the block, and those after its first convolution."""
        first, second, third = self.layers
        inside = _silu(first(x))
        found = third(_silu(second(inside)))
        return (found + x) * _odd(found), inside


def _conv(ndim: int, inputs: int, outputs: int, branches: bool) -> nn.Module:
    return MergedConv(ndim, inputs, outputs) if branches else conv(ndim, inputs, outputs)


class SPAN(Network):
    """Six blocks of three convolutions at low resolution, one pixel shuffle; added to an interpolation of the input.

    The defaults are the paper's larger network. `branches` trains each convolution as a wide linear chain; `merged`
    gives the same network without them, with the published number of parameters. `gain` multiplies the input: the
    attention is an odd function that vanishes for small features, so intensities of about 1 are brought to the 8-bit
    range that it was made for. The last layer starts at zero, so an untrained network is the interpolation `skip`.
    """

    def __init__(
        self,
        task: Task,
        width: int = 52,
        blocks: int = 6,
        gain: float = 255.0,
        branches: bool = True,
        skip: str = "cubic",
    ) -> None:
        super().__init__(task, width=width, blocks=blocks, gain=gain, branches=branches, skip=skip)
        ndim = task.ndim
        self.skip, self.gain = skip, gain
        self.head = _conv(ndim, task.channels, width, branches)
        self.body = nn.ModuleList([Block(ndim, width, branches) for _ in range(blocks)])
        self.join = _conv(ndim, width, width, branches)
        self.gather = conv(ndim, 4 * width, width, 1)
        self.tail = zero_(conv(ndim, width, task.channels * math.prod(task.factor)))
        self.shuffle = PixelShuffle(task.factor)
        self.reach = (max(3 + 3 * blocks, KERNELS[skip][1]),) * ndim

    def forward(self, x: Tensor) -> Tensor:
        """The finer image."""
        head = self.head(x * self.gain)
        features = first = inside = head
        for number, block in enumerate(self.body):
            features, inside = block(features)
            first = features if number == 0 else first
        features = self.gather(torch.cat([head, self.join(features), first, inside], 1))
        correction: Tensor = self.shuffle(self.tail(features)) / self.gain
        return upsample(x, self.skip, self.task.factor) + correction

    @torch.no_grad()
    def merged(self) -> SPAN:
        """The same network with each chain as the one convolution that it is: smaller, and equally fast."""
        plain = SPAN(self.task, **{**self.settings, "branches": False}).train(self.training)
        chains = {name: part for name, part in self.named_modules() if isinstance(part, MergedConv)}
        kept = {name: tensor for name, tensor in self.state_dict().items() if name.rsplit(".", 2)[0] not in chains}
        for name, chain in chains.items():
            kept[f"{name}.weight"], kept[f"{name}.bias"] = chain.merged()
        plain.load_state_dict(kept)
        return plain

    def for_inference(self) -> Network:
        """The network without branches."""
        return self.merged()


def build(task: Task, **settings: Any) -> Network:  # noqa: ANN401 - JSON values
    """The network of a task."""
    return SPAN(task, **settings)
