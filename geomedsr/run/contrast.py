"""What a file's name says of the contrast of a scan, against what a model was taught and judged on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from geomedsr.model import Model

__all__ = ["contrast_of", "contrast_warning"]

_CONTRASTS = ("T1w", "T2w", "FLAIR", "PDw", "T2starw", "dwi", "bold")
"""The suffixes that BIDS has for contrasts."""

_OTHERWISE = {"t1": "T1w", "t2": "T2w"}


def contrast_of(file: str) -> str | None:
    """The contrast in a file's name, where there is exactly one.

    Example:
        >>> contrast_of("sub-01_ses-2_FLAIR.nii.gz"), contrast_of("T1W_thick.nii"), contrast_of("scan.nii")
        ('FLAIR', 'T1w', None)
    """
    known = {name.lower(): name for name in _CONTRASTS} | _OTHERWISE
    found = {known[word] for word in re.split(r"[^a-z0-9]+", file.lower()) if word in known}
    return found.pop() if len(found) == 1 else None


def contrast_warning(model: Model, file: str) -> str | None:
    """A sentence where a scan is named as of another contrast than the model's, with what it did on such images."""
    found = contrast_of(file)
    if model.modality != "mri" or found is None or found in model.channel_names:
        return None
    gains = [_gain(row) for row in model.judged.get("figures", {}).get("rows", ()) if row["about"].startswith(found)]
    judged = (
        f"judged on such images {len(gains)} times, it was {np.mean(gains):+.1f} dB over cubic in the mean and "
        f"{min(gains):+.1f} dB at least"
        if gains
        else "it was never judged on such images"
    )
    return f"{file} is named as {found} and {model.name} is for {', '.join(model.channel_names)}: {judged}."


def _gain(row: dict[str, Any]) -> float:
    return float(row["scores"]["model"]["psnr"] - row["scores"]["cubic"]["psnr"])
