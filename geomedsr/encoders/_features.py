"""What every feature extractor is: a frozen module from an image to named layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from geomedsr.errors import ModelError
from geomedsr.grid import Shape

__all__ = ["Features", "conv"]


def conv(ndim: int, inputs: int, outputs: int, kernel: int = 3) -> nn.Conv2d | nn.Conv3d:
    """A convolution that keeps the shape, for 2 or 3 axes."""
    layer = nn.Conv2d if ndim == 2 else nn.Conv3d
    return layer(inputs, outputs, kernel, padding=kernel // 2)


class Features(nn.Module):
    """(B, `channels`, *S) with S of `ndim` axes to the features of the layers that are asked for.

    `channels` 1: it looks at each channel of an image alone. `smallest` is how many voxels each axis needs.
    """

    name: str
    ndim: int
    channels: int
    layers: tuple[str, ...]
    smallest: int = 1

    def forward(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """The features of `layers` (none named: of all), by name."""
        raise TypeError(f"{type(self).__name__} has no forward pass.")

    def prepared(self, x: Tensor, like: Tensor) -> Tensor:
        """The image in the values that the weights were trained on; `like` is the true image that sets the scale."""
        del like
        return x

    def adapted(self, x: Tensor) -> Tensor:
        """The image with the channels that the weights know.

        Shape: (B, C, *S) to (B, channels, *S), or to (B * C, 1, *S) where each channel is looked at alone

        Raises:
            ModelError: it has other channels.
        """
        if self.channels == 1:
            return x.flatten(0, 1).unsqueeze(1)
        if x.shape[1] != self.channels:
            raise ModelError(f"{self.name} looks at {self.channels} channels; the image has {x.shape[1]}.")
        return x

    def views(self, x: Tensor) -> list[Tensor]:
        """The image as this extractor can take it: a volume before one of two axes is its slices, along each axis.

        Shape: (B, C, *S) to a list of (B', channels, *S')

        Raises:
            ModelError: the image has too few axes, too few voxels or other channels.
        """
        if x.ndim - 2 < self.ndim:
            raise ModelError(f"{self.name} looks at {self.ndim} axes; the image has {x.ndim - 2}.")
        self._check_size(tuple(x.shape[2:]))
        x = self.adapted(x)
        if x.ndim - 2 == self.ndim:
            return [x]
        return [x.movedim(axis, 1).flatten(0, 1) for axis in range(2, x.ndim)]

    def _check_size(self, shape: Shape) -> None:
        if min(shape) < self.smallest:
            raise ModelError(f"{self.name} needs {self.smallest} voxels on each axis; the patch has {shape}.")
