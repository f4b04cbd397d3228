"""SwinIR, light: self-attention inside windows that move by half their width from layer to layer.

What a voxel sees depends on where the windows lie, so tiles must begin at multiples of the window. Then its sight is
finite all the same: each layer looks no farther than a window, and masked scores are exactly no weight. `reach` is
that of the worst place in a window; with it as the halo, tiles need no blending.

Reference: Liang et al. 2021, "SwinIR: Image Restoration Using Swin Transformer", arXiv:2108.10257
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from geomedsr.networks._blocks import PixelShuffle, conv, crop_to, pad_to_multiple, zero_
from geomedsr.networks._network import Network
from geomedsr.networks._reach import Look, walked, wide, windowed
from geomedsr.networks.interpolate import KERNELS, upsample
from geomedsr.task import Task

__all__ = ["SwinIR", "build", "cut", "joined"]


def cut(x: Tensor, window: int) -> Tensor:
    """The voxels of each window together.

    Shape: (B, *S, C) to (B, windows, window ** ndim, C)
    """
    batch, *shape, channels = x.shape
    ndim = len(shape)
    x = x.reshape(batch, *[n for length in shape for n in (length // window, window)], channels)
    outer, inner = range(1, 2 * ndim, 2), range(2, 2 * ndim + 1, 2)
    x = x.permute(0, *outer, *inner, 2 * ndim + 1)
    return x.reshape(batch, -1, window**ndim, channels)


def joined(x: Tensor, window: int, shape: list[int]) -> Tensor:
    """What `cut` took apart.

    Shape: (B, windows, window ** ndim, C) to (B, *shape, C)
    """
    batch, channels, ndim = x.shape[0], x.shape[-1], len(shape)
    x = x.reshape(batch, *[length // window for length in shape], *[window] * ndim, channels)
    order = [axis for i in range(1, ndim + 1) for axis in (i, i + ndim)]
    return x.permute(0, *order, 2 * ndim + 1).reshape(batch, *shape, channels)


class Attention(nn.Module):
    """Self-attention among the voxels of a window, with a learnt score for each offset between two of them.

    Shape: (B, windows, N, width) to the same; `apart` (windows, N, N) is true where two voxels may not see each other
    """

    offsets: Tensor

    def __init__(self, ndim: int, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)
        span = 2 * window - 1
        self.scores = nn.Parameter(torch.zeros(span**ndim, heads))
        nn.init.trunc_normal_(self.scores, std=0.02)
        place = torch.tensor(list(product(range(window), repeat=ndim)))
        away = place[:, None] - place[None] + window - 1
        weights = torch.tensor([span**i for i in reversed(range(ndim))])
        self.register_buffer("offsets", (away * weights).sum(-1), persistent=False)

    def forward(self, x: Tensor, apart: Tensor | None) -> Tensor:
        """The voxels after they have looked at each other."""
        batch, windows, voxels, width = x.shape
        split = self.project_in(x).reshape(batch, windows, voxels, 3, self.heads, width // self.heads)
        query, key, value = split.permute(3, 0, 1, 4, 2, 5).unbind(0)
        scores = self.scores[self.offsets].permute(2, 0, 1)
        if apart is not None:
            scores = scores.masked_fill(apart[:, None], -math.inf)
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=scores.to(query.dtype))
        out: Tensor = self.project_out(found.transpose(2, 3).reshape(batch, windows, voxels, width))
        return out


class Layer(nn.Module):
    """Attention inside windows, then a perceptron on each voxel; each is added to what came in.

    Shape: (B, *S, width) to the same
    """

    def __init__(self, ndim: int, width: int, heads: int, window: int, ratio: float, offset: int) -> None:
        super().__init__()
        self.window, self.offset = window, offset
        self.axes = tuple(range(1, ndim + 1))
        self.first_norm, self.second_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(ndim, width, heads, window)
        hidden = int(width * ratio)
        self.perceptron = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """The voxels after one look around."""
        shape = list(x.shape[1:-1])
        tokens, apart = self.first_norm(x), None
        if self.offset:
            tokens = tokens.roll([-self.offset] * len(shape), self.axes)
            apart = _apart(shape, self.window, self.offset, x.device)
        tokens = joined(self.attention(cut(tokens, self.window), apart), self.window, shape)
        if self.offset:
            tokens = tokens.roll([self.offset] * len(shape), self.axes)
        x = x + tokens
        out: Tensor = x + self.perceptron(self.second_norm(x))
        return out


def _apart(shape: list[int], window: int, offset: int, device: torch.device) -> Tensor:
    """Where a roll has brought voxels of opposite borders into one window: pairs that may not see each other.

    Shape: (windows, N, N)
    """
    sides = torch.zeros(1, *shape, 1, dtype=torch.int64, device=device)
    for axis, length in enumerate(shape, start=1):
        sides.narrow(axis, length - offset, offset).add_(1 << axis)
    labels = cut(sides, window)[0, :, :, 0]
    return labels[:, :, None] != labels[:, None, :]


class Group(nn.Module):
    """Layers whose windows move to and fro, and a convolution; added to what came in.

    Shape: (B, *S, width) to the same
    """

    def __init__(self, ndim: int, width: int, depth: int, heads: int, window: int, ratio: float) -> None:
        super().__init__()
        offsets = _offsets(depth, window)
        self.layers = nn.Sequential(*[Layer(ndim, width, heads, window, ratio, offset) for offset in offsets])
        self.join = conv(ndim, width, width)

    def forward(self, x: Tensor) -> Tensor:
        """The voxels after several looks around."""
        out: Tensor = x + self.join(self.layers(x).movedim(-1, 1)).movedim(1, -1)
        return out


def _offsets(depth: int, window: int) -> list[int]:
    return [window // 2 if number % 2 else 0 for number in range(depth)]


class SwinIR(Network):
    """Head, groups of attention layers, one pixel shuffle; added to an interpolation of the input.

    The defaults are the paper's light network; `window` is 8 on two axes and, unless told otherwise, 4 on three.
    Layers are not dropped at random in training, as the paper does. An input that the window does not divide is
    padded inside. The last layer starts at zero, so an untrained network is the interpolation `skip`.
    """

    def __init__(
        self,
        task: Task,
        width: int = 60,
        groups: int = 4,
        depth: int = 6,
        heads: int = 6,
        window: int | None = None,
        ratio: float = 2.0,
        skip: str = "cubic",
    ) -> None:
        ndim = task.ndim
        window = window or (8 if ndim == 2 else 4)
        shared = {"width": width, "depth": depth, "heads": heads, "window": window, "ratio": ratio}
        super().__init__(task, groups=groups, skip=skip, **shared)
        if window % 2 or width % heads:
            raise ValueError(f"The window is even and the heads divide the width; got {window}, {heads} and {width}.")
        self.skip = skip
        self.multiple_of = window
        self.head = conv(ndim, task.channels, width)
        self.first_norm, self.last_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.body = nn.Sequential(*[Group(ndim, width, depth, heads, window, ratio) for _ in range(groups)])
        self.join = conv(ndim, width, width)
        self.tail = zero_(conv(ndim, width, task.channels * math.prod(task.factor)))
        self.shuffle = PixelShuffle(task.factor)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=0.02)
                nn.init.zeros_(part.bias)
        group: list[Look] = [*[windowed(window, offset) for offset in _offsets(depth, window)], wide(1)]
        look = walked([wide(1), *group * groups, wide(2)], 1, window)
        self.reach = (max(look, KERNELS[skip][1]),) * ndim

    def forward(self, x: Tensor) -> Tensor:
        """The finer image."""
        features = self.head(pad_to_multiple(x, self.multiple_of))
        tokens = self.body(self.first_norm(features.movedim(1, -1)))
        features = features + self.join(self.last_norm(tokens).movedim(-1, 1))
        correction: Tensor = self.shuffle(self.tail(features))
        smooth = upsample(x, self.skip, self.task.factor)
        return smooth + crop_to(correction, smooth.shape[2:])


def build(task: Task, **settings: Any) -> Network:  # noqa: ANN401 - JSON values
    """The network of a task."""
    return SwinIR(task, **settings)
