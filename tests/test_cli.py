from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from geomedsr.cli import StoppedError, run_command
from geomedsr.grid import Box
from geomedsr.image import Image
from geomedsr.io import format_of
from geomedsr.run.catalogue import shipped
from geomedsr.run.demo import SAMPLES

LINEAR = ["-m", "linear", "--scale", "2"]


def volume(path: Path, shape: tuple[int, ...] = (12, 10, 8), spacing: float = 1.0) -> Path:
    voxels = np.random.default_rng(1).integers(0, 900, shape).astype(np.int16)
    image = nibabel.Nifti1Image(voxels, np.diag([spacing, spacing, spacing, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    return path


def raster(path: Path, bands: int = 4, size: int = 24, names: tuple[str, ...] = (), colours: bool = False) -> Path:
    voxels = np.random.default_rng(2).integers(200, 3000, (bands, size, size)).astype(np.uint16)
    profile = {"driver": "GTiff", "width": size, "height": size, "count": bands, "dtype": "uint16"}
    if colours:
        voxels, profile["dtype"] = (voxels % 4).astype(np.uint8), "uint8"
    with rasterio.open(
        path, "w", **profile, crs="EPSG:32632", transform=Affine(10, 0, 5e5, 0, -10, 5e6), nodata=0
    ) as file:
        file.write(voxels)
        for i, name in enumerate(names):
            file.set_band_description(i + 1, name)
        if colours:
            file.write_colormap(1, {i: (i, i, i, 255) for i in range(4)})
    return path


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".geomedsr" in path.name]


def test_upscales_a_volume_and_says_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = volume(tmp_path / "scan.nii.gz")
    assert run_command(["upscale", str(source), "-o", str(tmp_path / "fine.nii.gz"), *LINEAR]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(tmp_path / "fine.nii.gz")]
    assert "check ok" in said.err
    assert nibabel.load(tmp_path / "fine.nii.gz").shape == (24, 20, 16)
    assert leftovers(tmp_path) == []


def test_upscales_one_axis(tmp_path: Path) -> None:
    source, out = volume(tmp_path / "scan.nii"), tmp_path / "fine.nii"
    assert run_command(["upscale", str(source), "-o", str(out), "-m", "cubic", "--scale", "1,1,4"]) == 0
    assert nibabel.load(out).shape == (12, 10, 32)


def test_a_single_slice_stays_one(tmp_path: Path) -> None:
    source, out = volume(tmp_path / "slice.nii", (12, 10)), tmp_path / "fine.nii"
    assert run_command(["upscale", str(source), "-o", str(out), *LINEAR]) == 0
    assert nibabel.load(out).shape in ((24, 20), (24, 20, 1))


def test_upscales_a_folder_into_a_new_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in" / "sub-01").mkdir(parents=True)
    volume(tmp_path / "in" / "sub-01" / "T1w.nii.gz")
    raster(tmp_path / "in" / "scene.tif")
    (tmp_path / "in" / "notes.txt").write_text("no image")
    assert run_command(["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), *LINEAR, "-q"]) == 0
    said = capsys.readouterr()
    written = [str(tmp_path / "out" / name) for name in ("scene.tif", "sub-01/T1w.nii.gz")]
    assert said.out.splitlines() == written
    assert said.err == ""


def test_json_is_one_object_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = raster(tmp_path / "a.tif"), raster(tmp_path / "b.tif", bands=2)
    assert run_command(["upscale", str(a), str(b), "-o", str(tmp_path / "out"), *LINEAR, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["status"] for row in rows] == ["done", "done"]
    assert rows[0]["shape_after"] == [48, 48]
    assert rows[0]["spacing_after"] == [5.0, 5.0]
    assert rows[0]["seconds"] > 0
    assert len(rows[1]["channels"]) == 2


def test_a_zarr_without_a_place_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = Image.of(np.ones((1, 8, 8), np.float32))
    sink = format_of(tmp_path / "a.zarr").create_sink(tmp_path / "a.zarr", image.spec)
    sink.write(Box.whole((8, 8)), image.voxels)
    sink.commit()
    assert run_command(["upscale", str(tmp_path / "a.zarr"), "-o", str(tmp_path / "b.zarr"), *LINEAR]) == 0
    assert "Where a.zarr lies and how large its voxels are is not known" in capsys.readouterr().err


def test_bands_are_chosen_by_number_and_name(tmp_path: Path) -> None:
    source = raster(tmp_path / "a.tif", names=("B02", "B03", "B04", "B08"))
    out = tmp_path / "out.tif"
    assert run_command(["upscale", str(source), "-o", str(out), *LINEAR, "--bands", "4,b2"]) == 0
    with rasterio.open(out) as file:
        assert file.descriptions == ("B08", "B02")


def test_dry_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = volume(tmp_path / "scan.nii.gz")
    assert run_command(["upscale", str(source), "-o", str(tmp_path / "new"), *LINEAR, "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "new" / "scan.nii.gz")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan.nii.gz"]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["--tile", "1,2,3"], "--tile is one number, or 2 for a.tif"),
        (["--tile", "0"], "each at least 1"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--co", "FOO=1"], "FOO"),
        (["--format", "zarr", "--co", "COMPRESS=ZSTD"], "zarr has no option 'compress'"),
    ],
)
def test_a_dry_run_refuses_what_would_fail(
    wrong: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = raster(tmp_path / "a.tif")
    assert run_command(["upscale", str(source), "-o", str(tmp_path / "out"), *LINEAR, "-n", *wrong]) == 2
    assert sentence in capsys.readouterr().err


def test_a_dry_run_refuses_options_that_nifti_has_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = volume(tmp_path / "a.nii")
    arguments = ["upscale", str(source), "-o", str(tmp_path / "o.nii"), *LINEAR, "-n"]
    assert run_command([*arguments, "--co", "FOO=1"]) == 2
    assert "NIfTI has no option 'FOO'" in capsys.readouterr().err


def test_skips_what_exists(tmp_path: Path) -> None:
    source, out = raster(tmp_path / "a.tif"), tmp_path / "out.tif"
    out.write_bytes(b"mine")
    assert run_command(["upscale", str(source), "-o", str(out), *LINEAR, "--skip-existing"]) == 0
    assert out.read_bytes() == b"mine"


def test_replaces_what_exists_only_when_told(tmp_path: Path) -> None:
    source, out = raster(tmp_path / "a.tif"), tmp_path / "out.tif"
    out.write_bytes(b"mine")
    assert run_command(["upscale", str(source), "-o", str(out), *LINEAR]) == 2
    assert out.read_bytes() == b"mine"
    assert run_command(["upscale", str(source), "-o", str(out), *LINEAR, "--overwrite"]) == 0
    with rasterio.open(out) as file:
        assert file.shape == (48, 48)


def test_goes_on_after_a_failure_when_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = raster(tmp_path / "b_good.tif"), tmp_path / "a_bad.tif"
    bad.write_bytes(b"not a tiff")
    arguments = ["upscale", str(bad), str(good), "-o", str(tmp_path / "out"), *LINEAR]
    assert run_command(arguments) == 2
    assert not (tmp_path / "out").exists()
    assert run_command([*arguments, "--on-error", "continue", "--json"]) == 4
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["status"] for row in rows] == ["failed", "done"]
    assert "a_bad.tif" in rows[0]["error"]


def test_a_broken_archive_and_a_misspelt_name_stop_no_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, other = tmp_path / "in", raster(tmp_path / "b.tif")
    (folder / "bad.zarr").mkdir(parents=True)
    (folder / "bad.zarr" / "zarr.json").write_text('{"x":')
    raster(folder / "a.tif")
    arguments = ["upscale", str(folder), str(tmp_path / "nope.tif"), str(other), "-o", str(tmp_path / "out"), *LINEAR]
    assert run_command([*arguments, "--on-error", "continue"]) == 4
    said = capsys.readouterr()
    assert said.out.splitlines() == [str(tmp_path / "out" / name) for name in ("a.tif", "b.tif")]
    assert "bad.zarr" in said.err
    assert "There is no file" in said.err


Make = Callable[[Path], list[str]]


def _upscale(source: Path, out: Path, *more: str) -> list[str]:
    return ["upscale", str(source), "-o", str(out), *(more or LINEAR)]


def _truncated(folder: Path) -> Path:
    path = volume(folder / "cut.nii.gz", (40, 40, 40))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def _wrong_magic(folder: Path) -> Path:
    path = folder / "wrong.nii"
    path.write_bytes(b"\0" * 400)
    return path


def _claims_too_much(folder: Path) -> Path:
    path = volume(folder / "claims.nii")
    data = bytearray(path.read_bytes())
    data[42:44] = (30000).to_bytes(2, "little")
    path.write_bytes(bytes(data))
    return path


def _complex(folder: Path) -> Path:
    path = folder / "complex.nii"
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4), np.complex64), np.eye(4)), path)
    return path


def _link(path: Path, to: Path) -> Path:
    path.symlink_to(to)
    return path


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def _twins(folder: Path) -> list[str]:
    for name in ("a", "b"):
        (folder / name).mkdir()
        volume(folder / name / "scan.nii")
    return ["upscale", str(folder / "a" / "scan.nii"), str(folder / "b" / "scan.nii"), "-o", str(folder / "o"), *LINEAR]


MISTAKES: dict[str, tuple[Make, int, str]] = {
    "no such file": (lambda p: _upscale(p / "no.nii", p / "o.nii"), 2, "There is no file"),
    "unknown suffix": (
        lambda p: _upscale(_wrong_magic(p).rename(p / "a.xyz"), p / "o.nii"),
        2,
        "no suffix that is known",
    ),
    "unknown output suffix": (lambda p: _upscale(volume(p / "a.nii"), p / "o.xyz"), 2, "no suffix that is known"),
    "empty folder": (lambda p: _upscale(_empty(p), p / "o"), 3, "holds no image"),
    "glob without match": (lambda p: _upscale(p / "*.nii", p / "o"), 3, "holds no image"),
    "truncated": (lambda p: _upscale(_truncated(p), p / "o.nii"), 2, "cut.nii.gz"),
    "wrong magic": (lambda p: _upscale(_wrong_magic(p), p / "o.nii"), 2, "wrong.nii"),
    "claims too much": (lambda p: _upscale(_claims_too_much(p), p / "o.nii"), 2, "claims.nii"),
    "complex values": (lambda p: _upscale(_complex(p), p / "o.nii"), 2, "complex"),
    "output is the input": (lambda p: _upscale(volume(p / "a.nii"), p / "a.nii"), 2, "is the input"),
    "output folder is the input's": (lambda p: _upscale(volume(p / "a.nii").parent, p), 2, "is the input"),
    "output folder is the glob's": (
        lambda p: _upscale(volume(p / "a.nii").parent / "*.nii", p, *LINEAR, "--skip-existing"),
        2,
        "is the input",
    ),
    "output links to the input": (
        lambda p: _upscale(volume(p / "a.nii"), _link(p / "o.nii", p / "a.nii"), *LINEAR, "--overwrite"),
        2,
        "is the input",
    ),
    "no output folder": (lambda p: _upscale(volume(p / "a.nii"), p / "x" / "y" / "o.nii"), 2, "does not exist"),
    "many into one": (lambda p: [*_twins(p)[:3], "-o", str(p / "o.nii"), *LINEAR], 2, "cannot go into the one file"),
    "two of one name": (_twins, 2, "would both become"),
    "no model": (lambda p: ["upscale", str(volume(p / "a.nii")), "-o", str(p / "o.nii")], 2, "-m cubic"),
    "unknown model": (lambda p: _upscale(volume(p / "a.nii"), p / "o.nii", "-m", "x9"), 2, "There is no model x9"),
    "baseline without scale": (lambda p: _upscale(volume(p / "a.nii"), p / "o.nii", "-m", "cubic"), 2, "--scale 2"),
    "scale is no number": (
        lambda p: _upscale(volume(p / "a.nii"), p / "o.nii", "-m", "cubic", "--scale", "two"),
        2,
        "whole numbers",
    ),
    "scale of zero": (
        lambda p: _upscale(volume(p / "a.nii"), p / "o.nii", "-m", "cubic", "--scale", "0"),
        2,
        "at least 1",
    ),
    "too few bands": (
        lambda p: _upscale(raster(p / "a.tif"), p / "o.tif", *LINEAR, "--bands", "1,7"),
        2,
        "There is no band 7",
    ),
    "palette": (lambda p: _upscale(raster(p / "a.tif", 1, colours=True), p / "o.tif"), 2, "colour table"),
    "unknown dtype": (
        lambda p: _upscale(raster(p / "a.tif"), p / "o.tif", *LINEAR, "--dtype", "int7"),
        2,
        "There is no --dtype int7",
    ),
    "too little memory": (
        lambda p: _upscale(volume(p / "a.nii"), p / "o.nii", *LINEAR, "--memory", "1KB"),
        2,
        "too little for any tile",
    ),
    "unknown option": (lambda p: ["upscale", "a.nii", "--bogus"], 2, "--bogus"),
    "overwrite and skip": (
        lambda p: _upscale(volume(p / "a.nii"), p / "o.nii", *LINEAR, "--overwrite", "--skip-existing"),
        2,
        "choose one",
    ),
    "no such device": (
        lambda p: _upscale(volume(p / "a.nii"), p / "o.nii", *LINEAR, "--device", "abacus"),
        2,
        "abacus",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, code, sentence = MISTAKES[mistake]
    arguments = make(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert run_command(arguments) == code
    said = capsys.readouterr()
    assert sentence in said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    script = (
        "import sys; from geomedsr.cli import run_command; run_command(['upscale', '--help']);"
        "assert not {'torch', 'numpy', 'rich', 'rasterio'} & set(sys.modules)"
    )
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Exit codes: 0 done" in done.stdout
    assert "\n  geomedsr upscale scenes/ -o fine/" in done.stdout
    assert time.perf_counter() - began < 2


def started(command: list[str], env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A process that hears signals, though the tests may run where they are ignored (behind nohup, or a shell's &)."""

    def hear() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env, preexec_fn=hear)


def test_interrupted_it_leaves_nothing_and_the_old_output_as_it_was(tmp_path: Path) -> None:
    source, out = volume(tmp_path / "scan.nii", (160, 160, 120)), tmp_path / "fine.nii.gz"
    out.write_bytes(b"the old output")
    arguments = ["upscale", str(source), "-o", str(out), "-m", "lanczos", "--scale", "3", "--overwrite"]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        process = started([sys.executable, "-m", "geomedsr", *arguments])
        while process.poll() is None and not leftovers(tmp_path):
            time.sleep(0.01)
        os.kill(process.pid, number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == code, said
        assert "Traceback" not in said
        assert out.read_bytes() == b"the old output"
        assert leftovers(tmp_path) == []


BUSY = """
import sys, torch
from pathlib import Path
from geomedsr import cli
from geomedsr.inference.backend import TorchBackend

flag, a = Path(sys.argv.pop(1)), torch.ones(5000, 5000)

def busy(self, *given):
    flag.touch()
    return a @ a  # seconds in which no handler of Python's is called

TorchBackend.run = TorchBackend.feed = busy
cli.main()
"""


@pytest.mark.parametrize("pause", [0.6, 0.0])
def test_a_second_interrupt_ends_at_once_and_the_old_output_stays(tmp_path: Path, pause: float) -> None:
    source, out, flag = volume(tmp_path / "scan.nii"), tmp_path / "fine.nii.gz", tmp_path / "busy"
    out.write_bytes(b"the old output")
    arguments = ["upscale", str(source), "-o", str(out), *LINEAR, "--overwrite"]
    settings = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BUSY, str(flag), *arguments]
    process = started(command, env=settings)
    while process.poll() is None and not flag.exists():
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    time.sleep(pause)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert out.read_bytes() == b"the old output"
    if pause:
        assert "ended at once; what was there before is as it was" in said
        assert time.monotonic() - began < 2
        assert leftovers(tmp_path) != []
        assert run_command(arguments) == 0
    else:  # one that is sent twice is one
        assert "interrupted; what was not finished has left nothing behind" in said
    assert leftovers(tmp_path) == []


def test_a_hang_up_is_ignored_under_nohup(tmp_path: Path) -> None:
    script = (
        "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); from geomedsr import cli;"
        "cli._catch_signals(); os.kill(os.getpid(), signal.SIGHUP); print('still here')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "still here\n", done.stderr


def test_an_interrupted_training_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise StoppedError(signal.SIGINT)

    monkeypatch.setattr("geomedsr.run.training.train_files", stopped)
    recipe = Path(__file__).parents[1] / "pipelines" / "mri_t1_x2.yaml"
    arguments = ["train", str(recipe), "--data", str(tmp_path), "--out", str(tmp_path / "m")]
    assert run_command(arguments) == 130
    assert "before the first checkpoint" in capsys.readouterr().err
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "checkpoint.safetensors").touch()
    assert run_command(arguments) == 130
    assert "--resume goes on from there" in capsys.readouterr().err


def test_json_tells_a_refusal_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "b.tif"
    source.write_text("x")
    assert run_command(["upscale", str(source), "-o", str(tmp_path / "o.tif"), *LINEAR, "--json"]) == 2
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (row["input"], row["status"]) == (str(source), "failed")
    assert "b.tif" in row["error"]


def test_doctor_tries_the_formats(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert set(findings["formats"].values()) == {"ok"}
    assert "speed" not in findings


def test_doctor_measures_what_there_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from geomedsr.run import speed

    monkeypatch.setattr(speed, "_SECONDS", 0.01)
    monkeypatch.setattr(speed, "_SHAPE", (1, 1, 32, 32))
    assert run_command(["doctor", "--benchmark", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["speed"]
    assert [(row["backend"], row["precision"]) for row in rows][:2] == [("torch", "float32"), ("torch", "bf16")]
    assert rows[0]["psnr_to_float32"] is None
    assert all(row["psnr_to_float32"] > 55 for row in rows[1:])
    assert all(row["voxels_per_second"] > 0 for row in rows)
    assert run_command(["doctor", "--benchmark"]) == 0
    assert "torch bf16" in capsys.readouterr().out


def test_info(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["info", str(raster(tmp_path / "a.tif"))]) == 0
    assert "24 x 24" in capsys.readouterr().out
    assert run_command(["info", str(volume(tmp_path / "a.nii")), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["orientation"] == "RAS+"
    assert facts["spacing"] == [1.0, 1.0, 1.0]


@pytest.mark.slow
@pytest.mark.skipif(not {sample.model for sample in SAMPLES} <= set(shipped()), reason="the models are not there")
def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["demo", "--out", str(tmp_path / "demo")]) == 0
    said = capsys.readouterr()
    written = [Path(line) for line in said.out.splitlines()]
    assert [path.name for path in written] == ["mri_t1_x2.nii.gz", "mri.png", "scene_x2.tif", "scene.png"]
    assert all(path.stat().st_size > 10_000 for path in written)
    assert said.err.count("check ok") == 2


def test_demo_without_its_images_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["demo", "--data", str(tmp_path), "--out", str(tmp_path / "demo")]) == 2
    assert "--data" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_train_tells_a_mistake_in_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: a\nfactr: [2, 2]\n")
    assert run_command(["train", str(recipe), "--data", str(tmp_path), "--out", str(tmp_path / "m")]) == 2
    assert "factr: no such key" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_models_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["models", "list", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"nearest", "linear", "cubic", "lanczos"} <= {row["name"] for row in rows}
    for row in rows:
        assert run_command(["models", "show", row["name"]]) == 0
        assert row["name"] in capsys.readouterr().out
    assert run_command(["models", "show", "x9"]) == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == 0
    assert capsys.readouterr().out.startswith("geomedsr ")
