"""ISRNet: the textbook's encoder of convolutions and decoder of transposed convolutions. The one to begin with.

A transposed convolution may shift the image or weave a pattern into it. Here neither happens: every kernel lies
centred on the voxels that it stands for, and is a multiple of its stride, so that each output voxel is the sum of
equally many taps.

Reference: Mao, Shen, Yang 2016, arXiv:1606.08921 (encoder, decoder and skips); Odena et al. 2016,
DOI 10.23915/distill.00003 (kernels and strides)
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from geomedsr.grid import Factor
from geomedsr.networks._blocks import conv, conv_transpose, crop_to, pad_to_multiple, stages, zero_
from geomedsr.networks._network import Network
from geomedsr.networks._reach import Look, strided, transposed, walked, wide
from geomedsr.networks.interpolate import KERNELS, upsample
from geomedsr.task import Task

__all__ = ["ISRNet", "build", "centred_kernel"]


def centred_kernel(stride: int) -> tuple[int, int]:
    """Kernel and padding of a transposed convolution that shifts nothing and gives every voxel equally many taps.

    Twice the stride, with half of it as padding; where that half is none, three times the stride.

    Example:
        >>> centred_kernel(2), centred_kernel(3), centred_kernel(1)
        ((4, 1), (9, 3), (3, 1))
    """
    return (3 * stride, stride) if stride % 2 else (2 * stride, stride // 2)


def _encoder(ndim: int, inputs: int, outputs: int) -> nn.Module:
    layer = nn.Conv2d if ndim == 2 else nn.Conv3d
    # A kernel of 4 is centred on the two voxels that become one; one of 3 would shift the image by half a voxel.
    halve = layer(inputs, outputs, 4, stride=2, padding=1)
    return nn.Sequential(halve, nn.ReLU(), conv(ndim, outputs, outputs), nn.ReLU())


def _decoder(ndim: int, inputs: int, outputs: int, step: Factor) -> nn.Module:
    kernel, padding = zip(*(centred_kernel(s) for s in step), strict=True)
    return conv_transpose(ndim, inputs, outputs, kernel, step, padding, (0,) * ndim)


class ISRNet(Network):
    """Convolutions that halve the grid `depth` times, transposed ones back and up to the finer grid.

    The width doubles with each level, and each level of the decoder adds what the encoder had there. The result is
    added to an interpolation of the input. The last layer starts at zero, so an untrained network is the
    interpolation `skip`. Tiles start at multiples of 2 ** `depth`; an input that does not divide is padded inside.
    """

    def __init__(self, task: Task, width: int = 64, depth: int = 2, skip: str = "cubic") -> None:
        super().__init__(task, width=width, depth=depth, skip=skip)
        ndim = task.ndim
        self.skip = skip
        self.multiple_of = 2**depth
        self.head = nn.Sequential(conv(ndim, task.channels, width), nn.ReLU(), conv(ndim, width, width), nn.ReLU())
        widths = [width * 2**level for level in range(depth + 1)]
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for fine, coarse in pairwise(widths):
            self.encoder.append(_encoder(ndim, fine, coarse))
            self.decoder.insert(0, _decoder(ndim, coarse, fine, (2,) * ndim))
        self.finer = nn.Sequential()
        for step in stages(task.factor):
            self.finer.extend([_decoder(ndim, width, width, step), nn.ReLU()])
        self.tail = zero_(conv(ndim, width, task.channels))
        looks = [self._reach(axis, depth) for axis in range(ndim)]
        self.reach = tuple(max(r, KERNELS[skip][1]) for r in looks)

    def _reach(self, axis: int, depth: int) -> int:
        looks: list[Look] = [wide(2), *[strided(4, 2, 1), wide(1)] * depth, *[transposed(4, 2, 1)] * depth]
        for step in stages(self.task.factor):
            kernel, padding = centred_kernel(step[axis])
            looks.append(transposed(kernel, step[axis], padding))
        return walked([*looks, wide(1)], self.task.factor[axis], self.multiple_of)

    def forward(self, x: Tensor) -> Tensor:
        """The finer image."""
        features = self.head(pad_to_multiple(x, self.multiple_of))
        levels = []
        for layer in self.encoder:
            levels.append(features)
            features = layer(features)
        for layer in self.decoder:
            features = functional.relu(layer(features)) + levels.pop()
        correction: Tensor = self.tail(self.finer(features))
        smooth = upsample(x, self.skip, self.task.factor)
        return smooth + crop_to(correction, smooth.shape[2:])


def build(task: Task, **settings: Any) -> Network:  # noqa: ANN401 - JSON values
    """The network of a task."""
    return ISRNet(task, **settings)
