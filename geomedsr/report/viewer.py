"""What the page's viewers are told: layers, scenes, and how a level becomes a brightness; as plain JSON values."""

from __future__ import annotations

from typing import Any

from geomedsr.grid import Grid
from geomedsr.report._view import View, views
from geomedsr.report.embedded import nifti, png
from geomedsr.report.exhibit import Exhibit
from geomedsr.report.layers import Layer, Scene

_FIRST = ("before", "after", "difference", "uncertainty")

__all__ = ["raster_viewer", "scale_note", "volume_viewer"]


def raster_viewer(shown: Exhibit) -> dict[str, Any]:
    """The viewer of a raster: each channel of each layer as a grey picture of levels."""
    names = shown.pair.names
    return {
        "channels": [names[i] for i in shown.channels],
        "spacing": list(shown.pair.grids[1].spacing),
        "shown": [shown.channels.index(i) for i in shown.first],
        **_common(shown),
        "scenes": [_raster_scene(shown, scene) for scene in shown.scenes],
    }


def _raster_scene(shown: Exhibit, scene: Scene) -> dict[str, Any]:
    planes = {}
    for layer in shown.layers:
        preview = scene.previews[layer.key]
        levels = shown.levels[layer.key].apply(preview.voxels)
        planes[layer.key] = {"planes": [png(plane) for plane in levels], "span": list(preview.span)}
    return {
        **_scene(shown, scene),
        "size": list(scene.box.scaled(shown.pair.factor).shape),
        "spacing": list(shown.pair.grids[1].spacing),
        "factor": [1, 1] if scene.is_averaged else list(shown.pair.factor),
        "layers": planes,
    }


def volume_viewer(shown: Exhibit) -> dict[str, Any]:
    """The viewer of a volume: each layer as a NIfTI, and how its planes are drawn."""
    return {
        **_common(shown),
        "shown": [layer.key for layer in shown.layers if layer.key in _FIRST],
        "anatomical": shown.pair.view.ends is not None,
        "scenes": [_volume_scene(shown, scene) for scene in shown.scenes],
    }


def _volume_scene(shown: Exhibit, scene: Scene) -> dict[str, Any]:
    volumes = {}
    for layer in shown.layers:
        preview, levels = scene.previews[layer.key], shown.levels[layer.key]
        volumes[layer.key] = {
            "nifti": nifti(levels.apply(preview.voxels)[0], preview.grid, levels.ends[0]),
            "shape": list(preview.grid.shape),
            "spacing": list(preview.grid.spacing),
        }
    return {**_scene(shown, scene), "layers": volumes, "views": [_view(view) for view in views(shown.pair.before.spec)]}


def _view(view: View) -> dict[str, Any]:
    return {
        "rows": view.rows,
        "columns": view.columns,
        "cut": view.cut,
        "turned": list(view.turned),
        "ends": list(view.ends) if view.ends else None,
    }


def _common(shown: Exhibit) -> dict[str, Any]:
    return {"units": shown.pair.grids[0].units, "layers": [_layer(shown, layer) for layer in shown.layers]}


def _layer(shown: Exhibit, layer: Layer) -> dict[str, Any]:
    low, high = shown.levels[layer.key].ends[0]
    return {
        "key": layer.key,
        "label": layer.label,
        "kind": layer.kind,
        "coarse": layer.coarse,
        "low": low,
        "high": high,
    }


def _scene(shown: Exhibit, scene: Scene) -> dict[str, Any]:
    return {"key": scene.key, "label": scene.label, "note": scale_note(scene, shown.pair.grids[1])}


def scale_note(scene: Scene, grid: Grid) -> str:
    """At which scale a scene is shown, in words."""
    preview = scene.previews["after"]
    shape = " × ".join(map(str, preview.box.shape))
    if not scene.is_averaged:
        whole = preview.box.shape == grid.shape
        return f"{'The whole image' if whole else 'A part'} at full resolution: {shape} voxels of the output."
    step = " × ".join(map(str, preview.step))
    return f"The whole image; each voxel shown is the mean of {step} of the output, so its finest detail is not seen."
