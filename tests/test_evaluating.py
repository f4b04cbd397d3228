"""`geomedsr evaluate`: which prediction belongs to which reference, what is refused, and what is written."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geomedsr.cli import run_command
from geomedsr.errors import GeomedsrError, InputError, ModelError
from geomedsr.grid import Box, Grid
from geomedsr.image import Image, ImageSpec
from geomedsr.io import format_of
from geomedsr.run.evaluating import Question, evaluate
from geomedsr.run.pairing import check_alike, matched
from geomedsr.run.simulating import Judge

ROOT = Path(__file__).parents[1]
SCENE = ROOT / "sample_data" / "scene.tif"


def write(path: Path, seed: int = 0, noise: float = 0.0, shape: tuple[int, ...] = (1, 24, 28, 14)) -> Path:
    rng = np.random.default_rng(seed)
    voxels = (rng.random(shape) * 100 + noise * rng.standard_normal(shape)).astype(np.float32)
    grid = Grid.of(shape[1:], np.eye(len(shape)), units="mm" if len(shape) == 4 else "")
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.of(voxels, grid)
    sink = format_of(path).create_sink(path, made.spec)
    for box in Box.whole(grid.shape).split(sink.spec.chunks or grid.shape):
        sink.write(box, made.read(box))
    sink.commit()
    return path


def test_folders_are_matched_by_name_and_each_is_a_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(("sub-01/anat/sub-01_T1w", "sub-02/anat/sub-02_T1w")):
        write(tmp_path / "truth" / f"{name}.nii.gz", number)
        write(tmp_path / "good" / f"{name.replace('_T1w', '_desc-sr_T1w')}.nii", number, noise=1)
        write(tmp_path / "bad" / f"{name}.nii.gz", number, noise=10)
    command = ["evaluate", str(tmp_path / "good"), str(tmp_path / "bad"), "--against", str(tmp_path / "truth")]
    assert run_command([*command, "-o", str(tmp_path / "out"), "--metrics", "psnr,ssim"]) == 0
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 4
    assert "bad - good" in said.out
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert {(one["image"], one["method"]) for one in found["images"]} == {
        (f"sub-0{n}/anat/sub-0{n}_T1w", method) for n in (1, 2) for method in ("good", "bad")
    }
    (psnr,) = [one for one in found["paired"] if one["metric"] == "psnr"]
    assert psnr["images"] == 2
    assert psnr["interval"][0] <= psnr["difference"] <= psnr["interval"][1] < -15
    assert psnr["better"] == 0
    assert found["data_range"].startswith("of each reference")
    with open(tmp_path / "out" / "images.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["psnr"]) for row in rows] == [one["psnr"] for one in found["images"]]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    pictures = {f"{end}-{method}.png" for end in ("best", "worst") for method in ("good", "bad")}
    assert written == {"evaluation.json", "images.csv", "paired.csv", "boxplot.png", *pictures}
    assert run_command([*command, "-o", str(tmp_path / "out")]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_with_one_reference_each_file_is_a_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = write(tmp_path / "truth.nii")
    files = [str(write(tmp_path / f"{name}.nii.gz", noise=noise)) for name, noise in (("edsr", 1), ("cubic", 5))]
    assert run_command(["evaluate", *files, "--against", str(truth), "--data-range", "100", "-q", "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    found = json.loads(said.out)
    assert [one["method"] for one in found["images"]] == ["edsr", "cubic"]
    assert [one["data_range"] for one in found["images"]] == [100, 100]
    assert found["images"][0]["psnr"] == pytest.approx(40, abs=0.3)
    assert found["metrics"]["fourier"]["units"] == "mm"
    assert all(one["interval"] is None for one in found["paired"])


def test_equal_images_are_told_without_a_number_that_json_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = write(tmp_path / "truth.nii")
    assert run_command(["evaluate", str(truth), "--against", str(truth), "-q", "--json", "--metrics", "psnr,mae"]) == 0
    assert json.loads(capsys.readouterr().out)["images"][0] == {
        "image": "truth",
        "method": "truth",
        "data_range": pytest.approx(100, abs=0.1),
        "psnr": None,
        "mae": 0,
    }


def test_a_prediction_without_its_reference_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "truth" / f"{name}.nii")
    write(tmp_path / "made" / "c.nii")
    with pytest.raises(InputError, match="no reference of its name"):
        matched([str(tmp_path / "made")], [str(tmp_path / "truth")])


def spec(**changes: object) -> ImageSpec:
    matrix = np.array([[0.0, 10.0, 5e5], [-10.0, 0.0, 5e6], [0.0, 0.0, 1.0]])
    grid = Grid.of((20, 20), matrix, "EPSG:32632", "m")
    made = ImageSpec(grid, ("B02", "B03", "B04"), np.dtype(np.float32))
    moved = {key: changes.pop(key) for key in ("shape", "crs", "affine") if key in changes}
    return replace(made, grid=replace(grid, **moved), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": (20, 21)}, "20 x 21 voxels and b.tif 20 x 20"),
        ({"crs": "EPSG:32633"}, "EPSG:32633"),
        ({"affine": ((0.0, 10.0, 5e5 + 5), (-10.0, 0.0, 5e6), (0.0, 0.0, 1.0))}, "0.5 voxels"),
        ({"channels": ("B04", "B03", "B02")}, "has B04, B02 where b.tif has B02, B04"),
        ({"channels": ("B02", "B03")}, "2 channels"),
    ],
)
def test_images_of_different_places_or_bands_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_alike(spec(**changes), spec(), "a.tif", "b.tif")


@pytest.mark.parametrize("names", [("band 1", "band 2", "band 3"), ("blue", "green", "red"), ("B2", "B3", "B4")])
def test_other_names_of_the_same_bands_are_accepted(names: tuple[str, ...]) -> None:
    check_alike(spec(channels=names), spec(), "a.tif", "b.tif")


def test_nothing_valid_in_common_is_refused(tmp_path: Path) -> None:
    voxels = np.ones((1, 20, 20), np.float32)
    halves = []
    for name, part in (("a", slice(10, None)), ("b", slice(None, 10))):
        voxels[:] = 1
        voxels[:, part] = np.nan
        made = Image.of(voxels)
        sink = format_of(tmp_path / f"{name}.tif").create_sink(tmp_path / f"{name}.tif", made.spec)
        sink.write(Box.whole((20, 20)), made.voxels)
        sink.commit()
        halves.append(str(tmp_path / f"{name}.tif"))
    with pytest.raises(InputError, match="valid in both"):
        evaluate(Question(), predictions=halves[:1], references=halves[1:])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A piece of the sample scene, with a corner that is invalid and an odd number of columns."""
    source, path = format_of(SCENE).open_source(SCENE), tmp_path_factory.mktemp("scene") / "piece.tif"
    box = Box((0, 0), (96, 111))
    sink = format_of(path).create_sink(path, replace(source.spec, grid=source.spec.grid.cropped(box), chunks=None))
    sink.write(Box.whole(box.shape), source.read(box))
    sink.commit()
    return path


def test_a_model_is_judged_beside_cubic_on_what_it_makes_coarse_itself(
    scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "-m", "s2-rgbn-x2", "-m", "linear", "--data", str(scene), "-o", str(tmp_path / "out")]
    assert run_command([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    by_method = {one["method"]: one for one in found["images"]}
    assert list(by_method) == ["s2-rgbn-x2", "linear", "cubic"]
    assert by_method["s2-rgbn-x2"]["psnr"] > by_method["cubic"]["psnr"] + 2 > by_method["linear"]["psnr"] + 2
    assert by_method["s2-rgbn-x2"]["sam"] < by_method["cubic"]["sam"]
    assert {one["against"] for one in found["paired"]} == {"cubic"}
    assert {"ergas", "ndvi", "q2n", "rase"} <= set(by_method["cubic"])


def test_data_are_made_coarse_by_another_degradation_where_one_is_named(
    scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    psnr = []
    for asked in ("bicubic", "{name: sensor, mtf: 0.1}"):
        command = ["evaluate", "-m", "s2-rgbn-x2", "--data", str(scene), "--metrics", "psnr", "--json", "-q"]
        assert run_command([*command, "--degradation", asked]) == 0
        psnr.append(json.loads(capsys.readouterr().out)["images"][1]["psnr"])
    assert psnr[0] > psnr[1] + 2  # cubic gets back more of an image that was blurred less


def test_a_planar_model_is_judged_on_a_volume(tmp_path: Path) -> None:
    head = ROOT / "sample_data" / "mri_t1.nii.gz"
    source = format_of(head).open_source(head)
    box = Box((60, 70, 16), (124, 151, 19))
    made = tmp_path / "head.nii"
    sink = format_of(made).create_sink(made, replace(source.spec, grid=source.spec.grid.cropped(box)))
    sink.write(Box.whole(box.shape), source.read(box))
    sink.commit()
    found = evaluate(Question(("psnr",)), judge=Judge(("mri-t1-x2",)), data=[str(made)])
    psnr = {score.method: score.values["psnr"] for score in found.scores}
    assert psnr["mri-t1-x2"] > psnr["cubic"] + 2


def test_the_numbers_are_written_without_matplotlib(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    command = ["evaluate", str(scene), "--against", str(scene), "--metrics", "mae", "-o", str(tmp_path / "out")]
    assert run_command(command) == 0
    assert "pip install 'geomedsr[report]'" in capsys.readouterr().err
    assert (tmp_path / "out" / "evaluation.json").exists()
    assert not (tmp_path / "out" / "boxplot.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "with --against"),
        (["a.tif"], "with --against"),
        (["-m", "cubic"], "with --data"),
        (["-m", "cubic", "--data", "SCENE"], "cannot say how references are made coarse"),
        (["-m", "mri-t1-x2", "--data", "SCENE"], "made for mri"),
        (["-m", "nope", "--data", "SCENE"], "no model nope"),
        (["-m", "s2-rgbn-x2", "--data", "SCENE", "--degradation", "fog"], "no 'fog' in degradations"),
        (["-m", "s2-rgbn-x2", "--data", "SCENE", "--degradation", "{name: sensor, mtf: 7}"], "degradation sensor"),
        (["-m", "s2-rgbn-x2", "--data", "SCENE", "--degradation", "{mtf: 7}"], "--degradation is a name"),
        (["SCENE", "--against", "SCENE", "--metrics", "lpips"], "no metric lpips"),
        (["SCENE", "--against", "SCENE", "--data-range", "0"], "above 0"),
        (["SCENE", "--against", "none.tif"], "no file"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], words: str, scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [str(scene) if one == "SCENE" else one for one in arguments]
    assert run_command(["evaluate", *command, "-o", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    assert words in said.err
    assert not (tmp_path / "out").exists()


def test_a_model_without_its_metadata_is_refused(scene: Path, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    with pytest.raises(ModelError, match=r"no config\.json"):
        Judge((str(tmp_path / "bare"),))
    (tmp_path / "bare" / "config.json").write_text('{"geomedsr": 1}')
    with pytest.raises(ModelError, match="not understood"):
        Judge((str(tmp_path / "bare"),))
    with pytest.raises(GeomedsrError, match="above 0"):
        Question(data_range=-1)
