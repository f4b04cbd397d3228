"""Still pictures for paper and for browsers without scripts: what the viewers show at first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from geomedsr.report._view import INVALID, Pixels, View, enlarged, views
from geomedsr.report.embedded import picture
from geomedsr.report.exhibit import Exhibit
from geomedsr.report.layers import Scene
from geomedsr.report.viewer import scale_note

__all__ = ["stills"]

_LONGEST = 520
_SIGNED = np.array([(33, 102, 172), (146, 197, 222), (247, 247, 247), (244, 165, 130), (178, 24, 43)], np.float64)
_PLANES = ("axial", "coronal", "sagittal")


def stills(shown: Exhibit) -> dict[str, Any]:
    """The pictures with their captions, and a note on their scale."""
    scene = shown.detail
    volume = shown.pair.grids[0].ndim == 3
    note = f"{scale_note(scene, shown.pair.grids[1])} Input and output are drawn between the same values."
    if volume and shown.pair.view.ends:
        note += " Radiological convention: the patient’s right (R) is on the left of the picture."
    return {"stills": _volume(shown, scene) if volume else _raster(shown, scene), "stills_note": note}


def _raster(shown: Exhibit, scene: Scene) -> list[dict[str, Any]]:
    places = [shown.channels.index(i) for i in shown.first]
    found = []
    for key, label in (("before", "Input"), ("after", "Output"), ("difference", "Output minus cubic interpolation")):
        levels = shown.levels[key].apply(scene.previews[key].voxels)[places]
        found.append(_still(_coloured(levels, signed=key == "difference"), shown.pair.grids[1].spacing, label, ()))
    return found


def _volume(shown: Exhibit, scene: Scene) -> list[dict[str, Any]]:
    found = []
    for number, view in enumerate(views(shown.pair.before.spec)):
        name = _PLANES[number] if view.ends else f"axis {number + 1}"
        for key, label in (("before", "Input"), ("after", "Output"), ("difference", "Output minus cubic")):
            preview = scene.previews[key]
            plane = _plane(shown.levels[key].apply(preview.voxels)[0], view)
            spacing = view.spacing(preview.grid)
            found.append(
                _still(_coloured(plane[None], signed=key == "difference"), spacing, f"{label}, {name}", view.ends or ())
            )
    return found


def _plane(levels: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    assert view.cut is not None
    plane = levels.take(levels.shape[view.cut] // 2, view.cut)
    plane = plane.T if view.rows > view.columns else plane
    return np.asarray(plane[:: -1 if view.turned[0] else 1, :: -1 if view.turned[1] else 1])


def _coloured(levels: NDArray[np.uint8], *, signed: bool) -> Pixels:
    """One or three planes of levels as a picture; a difference by its mean over the planes."""
    share = (np.maximum(levels, 1).astype(np.float64) - 1) / 254
    if signed:
        place = share.mean(axis=0) * (len(_SIGNED) - 1)
        channels = [np.interp(place, range(len(_SIGNED)), _SIGNED[:, c]) for c in range(3)]
        pixels = np.stack(channels, axis=-1)
    else:
        pixels = 255 * np.broadcast_to(share, (3, *share.shape[1:])).transpose(1, 2, 0)
    picture: Pixels = np.rint(pixels).astype(np.uint8)
    picture[(levels == 0).any(axis=0)] = INVALID
    return picture


def _still(pixels: Pixels, spacing: tuple[float, ...], caption: str, ends: tuple[str, ...]) -> dict[str, Any]:
    height, width = pixels.shape[0] * spacing[0], pixels.shape[1] * spacing[1]
    scale = _LONGEST / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return {"source": picture(enlarged(pixels, *size)), "caption": caption, "ends": ends}
