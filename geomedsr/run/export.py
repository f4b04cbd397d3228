"""Exporting a model for other runtimes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from geomedsr import __version__
from geomedsr.errors import OutputError
from geomedsr.io._staging import Staging, write_errors
from geomedsr.run.catalogue import load_model
from geomedsr.run.fit import BASELINES

if TYPE_CHECKING:
    from geomedsr.model import Model

__all__ = ["export"]


def export(name: str, target: Path, *, overwrite: bool = False) -> dict[str, str]:
    """Writes a model (by name or folder) as ONNX and gives what the file says of it.

    Raises:
        OutputError: the target exists, or cannot be written.
        ModelError: there is no such model, or it cannot be exported.
    """
    from geomedsr.inference.onnx import to_onnx

    if target.suffix.lower() != ".onnx":
        raise OutputError(f"{target} is no name for an ONNX file; choose one that ends in .onnx.")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists; choose another name, or pass --overwrite to replace it.")
    if name in BASELINES:
        raise OutputError(f"{name} is an interpolation, for any factor; only trained models are exported.")
    model = load_model(name)
    metadata = described(model)
    staging = Staging(target)
    try:
        written = to_onnx(model.network, metadata)
        with write_errors(target):
            staging.path.write_bytes(written)
        staging.publish()
    finally:
        staging.discard()
    return metadata


def described(model: Model) -> dict[str, str]:
    """All that a user of the bare network must know, as ONNX keeps it: texts by name."""
    task, network = model.task, model.network
    facts = {
        "name": model.name,
        "geomedsr": __version__,
        "sha256": model.sha256,
        "licence": model.licence,
        "modality": model.modality,
        "channels": list(model.channel_names),
        "axes": task.ndim,
        "factor": list(task.factor),
        "multiple_of": network.multiple_of,
        "reach": None if network.reach is None else list(network.reach),
        "intensity": model.intensity.model_dump(),
        "spacing": list(model.spacing) if model.spacing else None,
        "units": model.units,
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
