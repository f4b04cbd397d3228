"""`upscale` with --consistent, --uncertainty and --hallucination, from files to files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support import shapes
from trust_models import read, saved, written

import geomedsr
from geomedsr.cli import run_command
from geomedsr.grid import Box
from geomedsr.image import Scaling
from geomedsr.inference.upscaler import Upscaler
from geomedsr.model import Model
from geomedsr.trust.instrument import instrument_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "small")


def image(path: Path, holes: bool = False) -> Path:
    voxels = np.round(shapes(3).voxels)
    if holes:
        voxels[:, 8:14, 20:26] = np.nan
    return written(path, voxels, dtype=np.dtype(np.uint16), nodata=65535.0, has_holes=True)


def test_maps_lie_on_the_grid_of_the_output_in_real_numbers(folder: Path, tmp_path: Path) -> None:
    source, out = image(tmp_path / "a.tif", holes=True), tmp_path / "b.tif"
    report = geomedsr.upscale(
        source, out, str(folder), uncertainty=tmp_path / "u.tif", hallucination=str(tmp_path / "h.tif")
    )
    assert report.to_json()["maps"] == {
        "uncertainty": str(tmp_path / "u.tif"),
        "hallucination": str(tmp_path / "h.tif"),
    }
    fine, widths, surprise = (read(tmp_path / name) for name in ("b.tif", "u.tif", "h.tif"))
    for name in ("u.tif", "h.tif"):
        spec = geomedsr.open_image(tmp_path / name).spec
        assert spec.dtype == np.float32
        assert spec.grid == geomedsr.open_image(out).spec.grid
    assert np.isnan(fine).sum() == 4 * 36
    assert np.array_equal(np.isnan(widths), np.isnan(fine))
    assert np.array_equal(np.isnan(surprise), np.isnan(fine))
    assert np.nanmin(widths) > 0
    assert np.nanmin(surprise) < 0


@pytest.mark.parametrize("suffix", [".nii.gz", ".zarr"])
def test_every_format_holds_maps(suffix: str, folder: Path, tmp_path: Path) -> None:
    voxels = np.round(shapes(3, (1, 30, 26, 6)).voxels)
    scaling = (Scaling(0.5, 0.0),)
    source = written(tmp_path / f"a{suffix}", voxels, dtype=np.dtype(np.int16), scaling=scaling)
    paths = {kind: tmp_path / f"{kind}{suffix}" for kind in ("uncertainty", "hallucination")}
    geomedsr.upscale(source, tmp_path / f"b{suffix}", str(folder), axes=(0, 1), consistent=True, **paths)
    for path in paths.values():
        spec = geomedsr.open_image(path).spec
        assert spec.dtype == np.float32
        assert spec.grid == geomedsr.open_image(tmp_path / f"b{suffix}").spec.grid
        assert np.isfinite(read(path)).all()
    assert 0 < read(paths["uncertainty"]).min() < read(paths["uncertainty"]).max() < voxels.max()


def test_widths_scale_with_the_image(folder: Path, tmp_path: Path) -> None:
    voxels = shapes(3).voxels
    for name, gain in (("one", 1.0), ("ten", 10.0)):
        written(tmp_path / f"{name}.tif", voxels * np.float32(gain))
        geomedsr.upscale(
            tmp_path / f"{name}.tif", tmp_path / f"o_{name}.tif", str(folder), uncertainty=tmp_path / f"u_{name}.tif"
        )
    np.testing.assert_allclose(read(tmp_path / "u_ten.tif"), 10 * read(tmp_path / "u_one.tif"), rtol=1e-3)


def test_a_consistent_output_degrades_to_its_input_and_says_so(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = image(tmp_path / "a.tif")
    off = {}
    for name, more in (("plain", []), ("tied", ["--consistent"]), ("damped", ["--consistent", "--damping", "3"])):
        out = tmp_path / f"{name}.tif"
        assert (
            run_command(["upscale", str(source), "-o", str(out), "-m", str(folder), "--dtype", "float32", *more]) == 0
        )
        recipe = Model.load(folder).recipe
        residual = instrument_of(recipe, (2, 2)).degraded(torch.from_numpy(read(out))[None])[0].numpy() - read(source)
        off[name] = float(np.sqrt(np.mean(residual**2))) if name == "damped" else float(np.abs(residual).max())
    assert off["plain"] > 1
    assert off["tied"] < 1e-3
    assert off["damped"] == pytest.approx(3, rel=0.01)
    said = capsys.readouterr().err
    assert "consistent with kspace: off by at most" in said
    assert "down to a noise of 3" in said


def test_an_interpolation_is_tied_by_the_average(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = image(tmp_path / "a.tif"), tmp_path / "b.tif"
    arguments = ["upscale", str(source), "-o", str(out), "-m", "cubic", "--scale", "2", "--consistent"]
    assert run_command([*arguments, "--dtype", "float32"]) == 0
    mean = read(out).reshape(1, 48, 2, 40, 2).mean((2, 4))
    np.testing.assert_allclose(mean, read(source), rtol=0, atol=1e-3)
    assert "consistent with average (an interpolation was made for none)" in capsys.readouterr().err


def test_the_maps_of_a_folder_keep_the_names(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    image(tmp_path / "in" / "a.tif")
    image(tmp_path / "in" / "deep" / "b.tif")
    arguments = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", str(folder)]
    assert run_command([*arguments, "--uncertainty", str(tmp_path / "maps"), "-q"]) == 0
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.glob("maps/**/*.tif")) == [
        Path("maps/a.tif"),
        Path("maps/deep/b.tif"),
    ]


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no calibration": (["-m", "cubic", "--scale", "2", "--uncertainty", "u.tif"], "cubic has no calibration"),
    "a map that is the output": (["-m", "MODEL", "--uncertainty", "b.tif"], "would go where an output goes"),
    "a map that is the input": (["-m", "MODEL", "--hallucination", "a.tif", "--overwrite"], "is the input"),
    "one file for both maps": (
        ["-m", "MODEL", "--uncertainty", "u.tif", "--hallucination", "u.tif"],
        "would go where an uncertainty map goes",
    ),
    "a map that exists": (["-m", "MODEL", "--uncertainty", "old.tif"], "old.tif exists already"),
    "a map of an unknown kind": (["-m", "MODEL", "--uncertainty", "u.jpg"], "no suffix that is known"),
    "a map in no folder": (["-m", "MODEL", "--uncertainty", "x/y/u.tif"], "does not exist"),
    "a damping of nothing": (["-m", "MODEL", "--damping", "3"], "--damping weakens --consistent"),
    "a damping that is none": (["-m", "MODEL", "--consistent", "--damping", "much"], "auto or the input's noise"),
    "a damping below zero": (["-m", "MODEL", "--consistent", "--damping", "-1"], "auto or the input's noise"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_all_as_it_was(
    mistake: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    image(tmp_path / "a.tif")
    (tmp_path / "old.tif").write_bytes(b"old")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    arguments, said = MISTAKES[mistake]
    asked = [str(folder) if one == "MODEL" else one for one in arguments]
    assert run_command(["upscale", "a.tif", "-o", "b.tif", *asked]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_maps_of_several_images_need_a_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inputs = [str(image(tmp_path / name)) for name in ("a.tif", "b.tif")]
    arguments = ["upscale", *inputs, "-o", str(tmp_path / "out"), "-m", str(folder)]
    assert run_command([*arguments, "--uncertainty", str(tmp_path / "u.tif")]) == 2
    assert "give a folder" in capsys.readouterr().err


@pytest.mark.parametrize("passes", [0, 1, 2])
def test_interrupted_in_any_pass_it_leaves_nothing(
    passes: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, begun, run = image(tmp_path / "a.tif"), [], Upscaler.run

    def stopped(self: Upscaler, source: object, sink: object, progress: object = None) -> object:
        begun.append(self)
        if len(begun) > passes:
            spec = sink.spec  # type: ignore[attr-defined]
            sink.write(Box.whole(spec.grid.shape), np.zeros(spec.shape, np.float32))  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        return run(self, source, sink, progress)  # type: ignore[arg-type]

    monkeypatch.setattr(Upscaler, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        geomedsr.upscale(
            source, tmp_path / "b.tif", str(folder), uncertainty=tmp_path / "u.tif", hallucination=tmp_path / "h.tif"
        )
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]


def test_progress_counts_all_passes_and_json_names_the_maps(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = image(tmp_path / "a.tif")
    arguments = ["upscale", str(source), "-o", str(tmp_path / "b.tif"), "-m", str(folder), "--json", "-n"]
    assert run_command([*arguments, "--uncertainty", str(tmp_path / "u.tif")]) == 0
    assert json.loads(capsys.readouterr().out)["maps"] == {"uncertainty": str(tmp_path / "u.tif")}
    assert not (tmp_path / "u.tif").exists()
