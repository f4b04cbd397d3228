"""The card of a model: what it is for, what it was trained on, how it scored, what it must not be used for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geomedsr.data.intensity import IntensityRule
from geomedsr.model import Model
from geomedsr.recipe import Files, Recipe

__all__ = ["card"]


def card(model: Model) -> str:
    """The card in Markdown, with the header that model hubs read."""
    recipe = model.recipe
    assert recipe is not None
    sections = [
        _header(recipe),
        f"# {model.name}\n\n{recipe.about}",
        _use(model, recipe),
        _limits(recipe),
        _scores(model.scores),
        _data(recipe),
        _training(model, recipe),
    ]
    return "\n\n".join(sections) + "\n"


def _header(recipe: Recipe) -> str:
    tags = f"tags: [super-resolution, {recipe.modality}]"
    return f"---\nlicense: {recipe.licence or 'other'}\nlibrary_name: geomedsr\n{tags}\n---"


def _use(model: Model, recipe: Recipe) -> str:
    scope = recipe.scope
    rows = [
        ("Factor", " x ".join(map(str, recipe.factor))),
        ("Channels", ", ".join(recipe.channels)),
        ("Input spacing", _span(scope.spacing, scope.units)),
        ("Input values", _span(scope.values, "")),
        ("Intensities", _intensity(recipe.intensity)),
        ("Network", f"{recipe.network.name}, {model.parameters:,} parameters, reach {model.network.reach}"),
        ("Licence", recipe.licence),
    ]
    return "## Use\n\n" + _table(("", ""), rows)


def _intensity(rule: IntensityRule) -> str:
    told = {
        "identity": "as they are",
        "percentile": f"0 to 0, the {rule.high:g}th percentile of the foreground to 1",
        "window": f"{rule.low:g} to 0, {rule.high:g} to 1",
        "reflectance": f"a reflectance of 0 to 0, of {rule.high:g} to 1; a digital number of {rule.digital:g} is 1",
    }
    return told[rule.name]


def _scores(scores: dict[str, Any]) -> str:
    if not scores:
        return "## Scores\n\nNone: the recipe names no image to judge on."
    rows = [
        (
            one["name"],
            f"{one['psnr']:.2f}",
            f"{one['psnr_cubic']:.2f}",
            f"{one['psnr'] - one['psnr_cubic']:+.2f}",
            f"{one['ssim']:.4f}",
            f"{one['ssim_cubic']:.4f}",
        )
        for one in scores["each"]
    ]
    rows.append(
        (
            "**mean (standard deviation)**",
            f"{scores['psnr']:.2f} ({scores['psnr_std']:.2f})",
            f"{scores['psnr_cubic']:.2f} ({scores['psnr_cubic_std']:.2f})",
            f"{scores['gain']:+.2f} ({scores['gain_std']:.2f})",
            f"{scores['ssim']:.4f} ({scores['ssim_std']:.4f})",
            f"{scores['ssim_cubic']:.4f} ({scores['ssim_cubic_std']:.4f})",
        )
    )
    head = ("image", "PSNR / dB", "cubic / dB", "gain / dB", "SSIM", "cubic SSIM")
    text = (
        f"On the {scores['on']} images, which training never saw, degraded as below; the data range is that of each "
        "fine image, largest minus smallest value."
    )
    return f"## Scores\n\n{text}\n\n{_table(head, rows)}"


def _data(recipe: Recipe) -> str:
    parts = (("train", recipe.data.train), ("validate", recipe.data.validate_), ("test", recipe.data.test))
    rows = [(name, "; ".join(_files(files) for files in chosen) or "-") for name, chosen in parts]
    text = "## Data\n\n" + _table(("part", "files"), rows)
    return f"{text}\n\n{recipe.attribution}" if recipe.attribution else text


def _files(files: Files) -> str:
    bands = f" (bands {', '.join(map(str, files.bands))})" if files.bands else ""
    return ", ".join(f"`{pattern}`" for pattern in files.files) + bands


def _steps(done: dict[str, Any]) -> str:
    """How many there were, and how many there should have been where it was ended before."""
    planned = f" of {done['planned_steps']} planned" if "planned_steps" in done else ""
    return f"{done['steps']}{planned}"


def _training(model: Model, recipe: Recipe) -> str:
    done = model.training
    settings = ", ".join(f"{k} {v}" for k, v in recipe.degradation.settings.items())
    patch = " x ".join(map(str, recipe.sampling.patch))
    return (
        f"## Training\n\nThe fine images were made coarse by `{recipe.degradation.name}` "
        f"({settings or 'its defaults'}). {_steps(done)} steps of {recipe.sampling.batch} patches of {patch} fine "
        f"voxels, {_stages(recipe, done)}; {done.get('precision', recipe.precision)}, seed {recipe.seed}; the weights "
        f"are those of step {done['chosen_step']}. {done['minutes']:.0f} minutes on {_machine(done)} with torch "
        f"{done['torch']}. "
        f"The whole recipe stands in `config.json`.{_cost(model)}"
    )


def _stages(recipe: Recipe, done: dict[str, Any]) -> str:
    """The stages that were begun: a training that was ended before has no part of those after."""
    begun = len(done.get("stages", ())) + 1
    each = [
        f"{' + '.join(f'{loss.weight:g} {loss.name}' for loss in stage.losses)}, {stage.optimizer.name} at "
        f"{stage.optimizer.rate:g}, average of the weights {stage.ema:g}"
        f"{f', {stage.blend:g} of the way from those before' if stage.blend < 1 else ''}"
        for stage in recipe.stages[:begun]
    ]
    return each[0] if len(each) == 1 else "; then ".join(each)


def _machine(done: dict[str, Any]) -> str:
    device = f"{done['threads']} CPU threads" if done.get("device", "cpu") == "cpu" else done.get("machine", "a GPU")
    processes = done.get("processes", 1)
    return device if processes == 1 else f"{processes} processes of {device}"


def _cost(model: Model) -> str:
    """What the last stage changed, against the weights that it began with."""
    stages = model.training.get("stages", [])
    if not stages or not stages[-1]["scores"] or not model.scores:
        return ""
    before, after = stages[-1]["scores"], model.scores
    change = after["psnr"] - before["psnr"]
    verdict = f"It cost {-change:.2f} dB of PSNR." if change < 0 else f"It gained {change:.2f} dB of PSNR."
    rows = [
        (told, f"{before[key]:.{digits}f}", f"{after[key]:.{digits}f}", f"{after[f'{key}_cubic']:.{digits}f}")
        for key, told, digits in _QUALITIES
        if key in before and key in after
    ]
    head = ("", "before", "after", "cubic")
    return (
        f"\n\n### What the last stage changed\n\n{verdict} On the {after['on']} images; {_MEANINGS}"
        f"\n\n{_table(head, rows)}"
    )


_QUALITIES = (
    ("psnr", "PSNR / dB", 2),
    ("ssim", "SSIM", 4),
    ("perceptual", "perceptual distance", 4),
    ("frechet", "Fréchet distance", 4),
    ("spectrum", "spectral distance / dB", 2),
)
_MEANINGS = (
    "of distances, less is better. Perceptual is the cosine distance, place by place, in the features of the package's "
    "encoder for these images; Fréchet that of how these features are distributed, wherever they lie; spectral the "
    "difference of the radial power spectra, in which no encoder has a part."
)


def _limits(recipe: Recipe) -> str:
    text = (
        "## What it must not be used for\n\nNo diagnosis or measurement may rest on detail that only the result "
        "shows: what is finer than the input is a prediction. Images outside the range above, or coarse for another "
        "reason than the degradation below, may come out worse than by interpolation."
    )
    return f"{text} {recipe.scope.note}" if recipe.scope.note else text


def _span(span: tuple[float, float] | None, units: str) -> str:
    return f"{span[0]:g} to {span[1]:g} {units}".rstrip() if span else "any"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
