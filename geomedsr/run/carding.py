"""A model folder made ready to be shared: its card, what it was judged by, and its weights in less space."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomedsr.errors import ModelError, OutputError, WriteFailedError
from geomedsr.run import card_sections
from geomedsr.run.calibrating import with_section
from geomedsr.run.catalogue import find_model
from geomedsr.run.failures import draw_failures
from geomedsr.run.fit import BASELINES
from geomedsr.run.judgement import Judgement

if TYPE_CHECKING:
    from geomedsr.model import Model

__all__ = ["Shrunk", "shrink", "write_card"]

WEIGHTS = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Shrunk:
    """Bytes before and after, and the PSNR (dB) between outputs with the weights as they were and as they are."""

    before: int
    after: int
    psnr: float


def write_card(name: str, judged: Path | None = None, samples: Path | None = None) -> Path:
    """Writes a model's card anew, with a judgement (a JSON file) and failure cases on the sample images where given;
    what was there of both stays otherwise.

    Raises:
        ModelError: the model is an interpolation or broken, or the judgement is of other weights.
        OutputError: nothing can be written into its folder.
    """
    folder, model = _own(name)
    found = dict(model.judged)
    if judged is not None:
        found["figures"] = _read(judged, model).to_json()
    try:
        if samples is not None:
            found["failures"] = [asdict(case) for case in draw_failures(model, folder, samples)]
        model = replace(model, judged=found)
        model.save_findings(folder, card_of(model, folder))
    except OSError as error:
        raise WriteFailedError(f"{folder} could not be written: {error.strerror or error}.") from error
    return folder / "README.md"


def card_of(model: Model, folder: Path) -> str:
    """The whole card of a model, with what its folder tells besides: how large the weights are, how training went."""
    from geomedsr.training.card import card
    from geomedsr.trust.calibration import calibration_of

    size, log = (folder / WEIGHTS).stat().st_size, _log(folder)
    figures = model.judged.get("figures")
    one = Judgement.of(figures, f"The judgement of {model.name}") if figures else None
    sections = [card_sections.judged(one)] if one else []
    if model.calibration:
        held = card_sections.held(one) if one else ""
        sections.append(" ".join(part for part in (calibration_of(model).section(), held) if part))
    if model.judged.get("failures"):
        sections.append(card_sections.failures(model.judged["failures"], model.modality))
    sections.append(card_sections.cost(model.parameters, model.stored, size, one))
    sections += [text] if (text := card_sections.curve(log)) else []
    text = card(model)
    for section in sections:
        text = with_section(text, section)
    return text


def shrink(name: str) -> Shrunk:
    """Stores a model's weights as bfloat16, tells what that changed, and writes its card anew.

    A calibration stays, being hardly touched; a judgement of the former weights goes.

    Raises:
        ModelError: the model is an interpolation or broken.
        OutputError: nothing can be written into its folder.
    """
    from geomedsr.model import Model

    folder, model = _own(name)
    before, probe = (folder / WEIGHTS).stat().st_size, _probe(model)
    was = _output(model, probe)
    judged = {key: value for key, value in model.judged.items() if key != "figures"}
    try:
        shrunk = replace(model, stored="bfloat16", judged=judged)
        shrunk.save(folder, (folder / "README.md").read_text(encoding="utf-8"))
        shrunk, after = Model.load(folder), (folder / WEIGHTS).stat().st_size
        shrunk.save_findings(folder, card_of(shrunk, folder))
    except OSError as error:
        raise WriteFailedError(f"{folder} could not be written: {error.strerror or error}.") from error
    return Shrunk(before, after, _distance(was, _output(shrunk, probe)))


def _own(name: str) -> tuple[Path, Model]:
    """The folder of a model that may be written into, and the model."""
    from geomedsr.model import Model

    if name in BASELINES:
        raise ModelError(f"{name} is an interpolation: it has neither weights nor a card. Name a model.")
    folder = find_model(name)
    model = Model.load(folder)
    if not os.access(folder, os.W_OK):
        raise OutputError(f"Nothing can be written into the folder {folder}: it is read-only; work on a copy of it.")
    return folder, model


def _read(path: Path, model: Model) -> Judgement:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"The judgement {path} cannot be read: {getattr(error, 'strerror', None) or error}."
        ) from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} is no judgement of a model: it holds no keys.")
    found = Judgement.of(values, str(path))
    if found.sha256 != model.sha256:
        raise ModelError(
            f"{path} is of other weights ({found.sha256[:12]}) than those of {model.name} ({model.sha256[:12]}); judge "
            "it again."
        )
    return found


def _log(folder: Path) -> list[dict[str, str]]:
    """The lines of a training's log, where it is there."""
    path = folder / "log.csv"
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []


def _probe(model: Model) -> Any:  # noqa: ANN401 - a tensor
    """An image of waves and noise, in the network's units."""
    import torch

    size = 48 if model.task.ndim == 2 else 24
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, model.task.channels, *[size] * model.task.ndim, generator=generator)
    return 0.5 + 0.3 * torch.sin(torch.arange(size) / 3) + 0.1 * noise


def _output(model: Model, probe: Any) -> Any:  # noqa: ANN401 - tensors
    import torch

    with torch.inference_mode():
        return model.network(probe)


def _distance(one: Any, other: Any) -> float:  # noqa: ANN401 - tensors
    """The PSNR between two outputs, in the range of the first."""
    import torch

    error = float((one - other).square().mean())
    return float(10 * torch.log10((one.max() - one.min()) ** 2 / error)) if error > 0 else float("inf")
