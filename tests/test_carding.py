"""Making a model's folder ready to be shared: what it was judged by, its card, its weights in half the space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import SMALL_RECIPE

from geomedsr.cli import run_command
from geomedsr.errors import ModelError
from geomedsr.model import Model, build_network
from geomedsr.recipe import Recipe
from geomedsr.run.carding import shrink, write_card
from geomedsr.run.judgement import OWN, Judgement
from geomedsr.training.card import card

SAMPLES = Path(__file__).parents[1] / "sample_data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    recipe = Recipe.from_yaml(SMALL_RECIPE, "small")
    network = build_network(recipe)
    torch.nn.init.normal_(network.get_parameter("tail.weight"), std=0.01, generator=torch.Generator().manual_seed(0))
    training = {"steps": 6, "chosen_step": 3, "minutes": 1.0, "threads": 1, "torch": "2"}
    model = Model(recipe.name, network, recipe, {}, training)
    model.save(tmp_path / "m", card(model))
    log = "step,loss,rate,seconds,psnr,ssim,psnr_cubic,ssim_cubic\n3,0.1,1e-4,2,,,,\n3,,,2,31.5,0.9,30,0.8\n"
    (tmp_path / "m" / "log.csv").write_text(log)
    return tmp_path / "m"


def figures(folder: Path, **changes: Any) -> dict[str, Any]:
    scores = {name: {"psnr": psnr, "ssim": 0.9} for name, psnr in (("model", 33.0), ("lanczos", 30.4), ("cubic", 30.0))}
    worse = scores | {"model": {"psnr": 29.5, "ssim": 0.8}}
    row = {"image": "mri/a.nii", "about": "T2w, brain", "domain": "in", "degradation": OWN, "scores": scores}
    rows = [row, row | {"domain": "out", "image": "mri/b.nii", "degradation": "average", "scores": worse}]
    speed = {"input": [256, 256, 256], "seconds": 12.5, "measured": [256, 256, 4], "threads": 1, "machine": "a CPU"}
    speed |= {"precision": "float32", "backend": "torch"}
    made = {"sha256": Model.load(folder).sha256, "pieces": "4 planes", "rows": rows, "speed": speed}
    return made | {"coverage": {"in": 0.9, "out": 0.7}, "likeness": {"model": {"perceptual": 0.1}}} | changes


def stored(folder: Path, values: object) -> Path:
    path = folder.parent / "judged.json"
    path.write_text(json.dumps(values))
    return path


def test_a_judgement_comes_back_from_json_and_knows_its_worst(folder: Path) -> None:
    one = Judgement.of(figures(folder), "here")
    assert Judgement.of(json.loads(json.dumps(one.to_json())), "there") == one
    assert one.worst.image == "mri/b.nii"
    assert one.summary() == {"gain_in": 3.0, "gain_out": None, "gain_least": -0.5, "images": 2}
    assert one.degradations == (OWN, "average")


def test_a_card_tells_what_was_judged_and_keeps_it(folder: Path) -> None:
    path = write_card(str(folder), stored(folder, figures(folder)))
    text = path.read_text(encoding="utf-8")
    assert "**It was below cubic in 1 of 2 cases**, most of all by -0.50 dB (b.nii, average)" in text
    assert "An input of 256 x 256 x 256 voxels takes 12 s with one thread of a CPU" in text
    assert "| 3 | 31.5 | 30 | 0.9 | 0.8 |" in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Use",
        "## What it must not be used for",
        "## Scores",
        "## Judged on other images",
        "## Cost",
        "## Curve",
        "## Data",
        "## Training",
    ]
    assert write_card(str(folder)).read_text(encoding="utf-8") == text
    assert Model.load(folder).judged["figures"]["pieces"] == "4 planes"


def test_a_card_shows_where_a_model_fails(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["models", "card", str(folder), "--samples", str(SAMPLES)]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "README.md")
    text = (folder / "README.md").read_text(encoding="utf-8")
    pictures = sorted((folder / "pictures").iterdir())
    assert len(pictures) == 3
    for picture in pictures:
        assert f"(pictures/{picture.name})" in text
        assert picture.stat().st_size < 60_000
    assert "dB of cubic; in the whole plane" in text


def test_shrinking_halves_the_weights_and_says_how_far_that_moves_results(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_card(str(folder), stored(folder, figures(folder)))
    before = load_file(folder / "model.safetensors")
    assert run_command(["models", "shrink", str(folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    after = load_file(folder / "model.safetensors")
    assert all(torch.equal(after[name], before[name].bfloat16()) for name in before)
    assert told["psnr"] > 50
    assert told["after"] < 0.6 * told["before"]
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert "MB of bfloat16 weights" in text
    assert "Judged on other images" not in text  # those were other weights
    assert shrink(str(folder)).psnr == float("inf")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "is no judgement of a model: it holds no keys"),
        ({"sha256": "1", "pieces": ""}, "is no judgement of a model: 'rows'"),
        ({"sha256": "1", "pieces": "", "rows": []}, "no rows that hold a model against cubic"),
        ({"sha256": "1", "pieces": "", "rows": [{"image": "a"}]}, "is no judgement of a model"),
    ],
)
def test_what_is_no_judgement_is_refused_and_the_card_stays(values: object, said: str, folder: Path) -> None:
    before = (folder / "README.md").read_bytes(), (folder / "config.json").read_bytes()
    with pytest.raises(ModelError, match=said):
        write_card(str(folder), stored(folder, values))
    assert ((folder / "README.md").read_bytes(), (folder / "config.json").read_bytes()) == before


def test_a_judgement_of_other_weights_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="is of other weights"):
        write_card(str(folder), stored(folder, figures(folder, sha256="0" * 64)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["card", "cubic"], "neither weights nor a card"),
        (["shrink", "lanczos"], "neither weights nor a card"),
        (["shrink", "nowhere"], "There is no model nowhere"),
    ],
)
def test_mistakes_are_one_sentence(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["models", *arguments]) == 2
    found = capsys.readouterr().err.splitlines()
    assert len(found) == 1
    assert said in found[0]


def test_failure_cases_need_the_sample_images(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run_command(["models", "card", str(folder), "--samples", str(tmp_path / "empty")]) == 2
    assert not (folder / "pictures").exists()
