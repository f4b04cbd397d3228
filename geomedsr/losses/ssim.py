"""One minus structural similarity, at the settings that scikit-image calls gaussian.

Reference: Wang et al. 2004, DOI 10.1109/TIP.2003.819861
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from geomedsr.losses._loss import Loss
from geomedsr.losses._similarity import similarity

__all__ = ["SSIM", "build"]


class SSIM(Loss):
    """1 - SSIM, with a Gaussian window of 11 voxels and sigma 1.5, in 2 and 3 axes; `data_range` in network units."""

    def __init__(self, data_range: float = 1.0) -> None:
        super().__init__()
        if data_range <= 0:
            raise ValueError(f"data_range is above 0, not {data_range}")
        self.data_range = data_range

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The scalar."""
        luminance, structure = similarity(sr, hr, self.data_range)
        return 1 - (luminance * structure).mean()


def build(**settings: Any) -> Loss:  # noqa: ANN401 - JSON values
    """The loss of a recipe."""
    return SSIM(**settings)
