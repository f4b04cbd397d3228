from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from geomedsr.inference.kernels import OneKernel


def exact(layer: nn.Module, x: Tensor, length: int, reach: int, stride: int = 1) -> bool:
    """Whether the layer gives a window in the middle what it gives the whole."""
    begin = [(n - length) // 2 for n in x.shape[2:]]
    window = (slice(None), slice(None), *(slice(a, a + length) for a in begin))
    kept = (slice(None), slice(None), *(slice(reach * stride, (length - reach) * stride) for _ in begin))
    there = (slice(None), slice(None),
             *(slice((a + reach) * stride, (a + length - reach) * stride) for a in begin))  # fmt: skip
    with torch.inference_mode(), OneKernel():
        return torch.equal(layer(x[window])[kept], layer(x)[there])


@pytest.mark.parametrize("length", [21, 34, 90, 147])
@pytest.mark.parametrize(("inputs", "outputs", "kernel"), [(1, 8, 3), (12, 12, 3), (24, 6, 1), (2, 16, 5), (16, 1, 3)])
def test_a_convolution_gives_any_window_the_same_bits(inputs: int, outputs: int, kernel: int, length: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    assert exact(layer, torch.randn(1, inputs, 160, 171), length, kernel // 2)


@pytest.mark.parametrize("length", [7, 12, 19, 33])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 8), (12, 5), (32, 32), (32, 64)])
def test_in_three_axes_too(inputs: int, outputs: int, length: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv3d(inputs, outputs, 3, padding=1).to(memory_format=torch.channels_last_3d)
    x = torch.randn(1, inputs, 36, 38, 40).contiguous(memory_format=torch.channels_last_3d)
    assert exact(layer, x, length, 1)


@pytest.mark.parametrize("length", [21, 33, 97, 101])
def test_a_transposed_convolution_does_too(length: int) -> None:
    torch.manual_seed(0)
    layer = nn.ConvTranspose2d(56, 1, 9, 2, 4, 1)
    assert exact(layer, torch.randn(1, 56, 300, 310), length, 2, stride=2)


CASES = [
    (ndim, kernel, factor)
    for ndim, kernel in itertools.product((2, 3), (2, 3, 4, 5, 9))
    for factor in ((1, 2, 3)[:ndim], (2,) * ndim, (3,) * ndim, (4,) * ndim)
    if all(kernel >= f and (f - kernel + 2 * ((kernel - f + 1) // 2)) < max(f, 1) for f in factor)
]


@pytest.mark.parametrize(("ndim", "kernel", "factor"), CASES)
def test_the_interleaving_is_the_transposed_convolution(ndim: int, kernel: int, factor: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    padding = tuple((kernel - f + 1) // 2 for f in factor)
    extra = tuple(f - kernel + 2 * p for f, p in zip(factor, padding, strict=True))
    layer = (nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d)(3, 2, kernel, factor, padding, extra)
    x = torch.randn(2, 3, *(7, 6, 5)[:ndim])
    with torch.inference_mode():
        expected = layer(x)
        with OneKernel():
            found = layer(x)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)  # two orders of one sum


def test_other_transposed_convolutions_stay_what_they_are() -> None:
    layer = nn.ConvTranspose2d(3, 2, 4, 2, 0)
    x = torch.randn(1, 3, 7, 6)
    with torch.inference_mode(), OneKernel():
        assert layer(x).shape == (1, 2, 16, 14)
