from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import shapes
from trust_models import model, pairs, recipe, saved, unsettled, written

from geomedsr.cli import run_command
from geomedsr.errors import ModelError, RecipeError
from geomedsr.model import Model, baseline, build_network
from geomedsr.run.calibrating import with_section
from geomedsr.trust.calibration import HEADING, calibrate, calibration_of, varied
from geomedsr.trust.uncertainty import Answers


def test_a_calibration_survives_the_folder(tmp_path: Path) -> None:
    made = Model.load(saved(tmp_path / "small"))
    assert calibration_of(made).to_json() == made.calibration
    assert calibration_of(made).images == ("image 0", "image 1", "image 2")


def test_it_covers_unseen_images_of_the_same_kind() -> None:
    chosen = recipe()
    bare = Model("small", unsettled(build_network(chosen)), chosen)
    widening = calibrate(bare, pairs(chosen, range(12))).widening
    answers, inside = Answers(bare.network, True), []
    with torch.no_grad():
        for _, lr, hr in pairs(chosen, range(100, 112)):
            sr, features = answers(lr)
            inside.append(((hr - sr).abs() <= widening.widths(features))[varied(hr)])
    assert 0.88 <= float(torch.cat(inside).double().mean()) <= 0.92


def test_empty_ground_and_invalid_voxels_teach_nothing() -> None:
    hr = torch.zeros(1, 1, 20, 20)
    hr[..., 10, 10] = 1.0
    hr[..., 10, 11] = torch.nan
    counted = varied(hr)
    assert int(counted.sum()) == 24
    chosen = recipe()
    bare = Model("small", build_network(chosen).eval(), chosen)
    with pytest.raises(RecipeError, match="1000 voxels that vary; there are 24"):
        calibrate(bare, [("empty", torch.zeros(1, 1, 10, 10), hr)])


def test_what_has_no_calibration_says_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"cubic has no calibration.*choose a model that was trained"):
        calibration_of(baseline("cubic", 2, (2, 2)))
    with pytest.raises(ModelError, match="run geomedsr calibrate"):
        calibration_of(replace(model(), calibration={}))
    with pytest.raises(ModelError, match="not understood"):
        calibration_of(replace(model(), calibration={"level": 0.9}))


def test_a_section_takes_the_place_of_its_like() -> None:
    card = "# a\n\ntext\n\n## Scores\n\n1\n\n## Data\n\nd\n"
    once = with_section(card, f"{HEADING}\n\nfirst")
    assert once == f"# a\n\ntext\n\n## Scores\n\n1\n\n{HEADING}\n\nfirst\n\n## Data\n\nd\n"
    assert with_section(once, f"{HEADING}\n\nsecond") == once.replace("first", "second")
    assert with_section("# a\n", f"{HEADING}\n\nx") == f"# a\n\n{HEADING}\n\nx\n"


def test_the_command_calibrates_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = saved(tmp_path / "small")
    before = (folder / "model.safetensors").read_bytes()
    data = tmp_path / "data"
    data.mkdir()
    written(data / "b1.tif", shapes(7).voxels)
    assert run_command(["calibrate", str(folder), "--data", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == ["b1.tif"]
    assert calibration_of(Model.load(folder)).images == ("b1.tif",)
    assert (folder / "model.safetensors").read_bytes() == before
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.count(HEADING) == 1
    assert "`b1.tif`" in card


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("cubic", "cubic is an interpolation"),
        ("nowhere", "no model nowhere"),
        ("small", "data.validate.0: no file below"),
        ("alone", "names no held-out images"),
    ],
)
def test_a_mistake_is_one_sentence(name: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "small")
    saved(tmp_path / "alone", data={"train": [{"files": "a*"}]})
    where = str(tmp_path / name) if (tmp_path / name).exists() else name
    assert run_command(["calibrate", where, "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


@pytest.mark.real
@pytest.mark.skipif("GEOMEDSR_DATA" not in os.environ, reason="needs GEOMEDSR_DATA")
def test_the_interval_of_the_brain_model_holds_on_an_unseen_person() -> None:
    from geomedsr.model import build_degradation
    from geomedsr.run.catalogue import find_model
    from geomedsr.run.training import open_subjects
    from geomedsr.training.validation import planes_of

    made = Model.load(find_model("mri-t1-x2"))
    assert made.recipe is not None
    (subject, _) = open_subjects(made.recipe, Path(os.environ["GEOMEDSR_DATA"])).test
    widening = calibration_of(made).widening
    with torch.inference_mode():
        for pair in planes_of(subject, build_degradation(made.recipe), made.network, 1, torch.Generator()):
            sr, features = Answers(made.network, widening.quarter)(pair.lr)
            inside = ((pair.hr - sr).abs() <= widening.widths(features))[varied(pair.hr)]
            assert 0.85 <= float(inside.double().mean()) <= 0.95  # one plane of the many that the interval is for
