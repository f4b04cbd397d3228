"""What an output says of how it was made: in every format, beside it, and the same at every run."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import rasterio
import zarr

from geomedsr.cli import run_command
from geomedsr.errors import OutputError
from geomedsr.grid import Box, Grid
from geomedsr.image import Image
from geomedsr.io import format_of
from geomedsr.io._nifti_extensions import provenance_in, with_provenance
from geomedsr.run.inputs import Found
from geomedsr.run.library import upscale
from geomedsr.run.provenance import fingerprint, read_provenance
from geomedsr.run.sidecar import bids_name
from geomedsr.run.targets import plan_targets

TEXT = json.dumps({"geomedsr": "1", "model": {"name": "m"}, "input": {}, "parameters": {}, "note": 'Ä "x" = <y>'})
SUFFIXES = {".nii": 3, ".nii.gz": 3, ".hdr": 3, ".tif": 2, ".zarr": 2}


def image(ndim: int) -> Image:
    voxels = np.random.default_rng(0).integers(0, 900, (1, 20, 22, 12)[: ndim + 1]).astype(np.float32)
    made = Image.of(voxels, Grid.of(voxels.shape[1:], np.diag([2.0] * ndim + [1.0]), units="mm" if ndim == 3 else ""))
    return Image(replace(made.spec, dtype=np.dtype(np.int16)), voxels)


def write(path: Path, ndim: int, text: str | None = None, **options: str) -> Path:
    made = image(ndim)
    sink = format_of(path).create_sink(path, replace(made.spec, provenance=text), options)
    for box in Box.whole(made.spec.grid.shape).split(sink.spec.chunks or made.spec.grid.shape):
        sink.write(box, made.read(box))
    sink.commit()
    return path


def spec_of(path: Path) -> str | None:
    source = format_of(path).open_source(path)
    try:
        return source.spec.provenance
    finally:
        source.close()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_the_text_back(suffix: str, tmp_path: Path) -> None:
    assert spec_of(write(tmp_path / f"a{suffix}", SUFFIXES[suffix], TEXT)) == TEXT
    assert spec_of(write(tmp_path / f"b{suffix}", SUFFIXES[suffix])) is None


def test_a_cog_keeps_it_in_the_file_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", 2, TEXT, COG="YES")
    assert spec_of(path) == TEXT
    assert not (tmp_path / "a.tif.aux.xml").exists()


def test_others_read_it_too(tmp_path: Path) -> None:
    extension = nibabel.load(write(tmp_path / "a.nii.gz", 3, TEXT)).header.extensions[0]
    assert extension.get_code() == 6
    content = extension.get_content()
    assert json.loads(content if isinstance(content, str) else content.rstrip(b"\0").decode()) == json.loads(TEXT)
    with rasterio.open(write(tmp_path / "a.tif", 2, TEXT)) as file:
        assert file.tags()["GEOMEDSR_PROVENANCE"] == TEXT
    note = zarr.open_array(str(write(tmp_path / "a.zarr", 2, TEXT)), mode="r").attrs["geomedsr"]
    assert isinstance(note, dict)
    assert note["provenance"] == TEXT


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_extensions_of_others_are_kept(order: str) -> None:
    other = struct.pack(f"{order}ii", 32, 44) + b"somebody else's " + bytes(8)
    after = with_provenance(b"\1\0\0\0" + other, TEXT, order)
    again = with_provenance(after, TEXT.replace("Ä", "B"), order)
    assert after.startswith(b"\1\0\0\0" + other)
    assert (len(after) - 4) % 16 == 0
    assert again.count(b'{"geomedsr"') == 1
    assert provenance_in(again, "<" if order == "<" else ">") == TEXT.replace("Ä", "B")
    broken = b"\1\0\0\0" + struct.pack(f"{order}ii", 7, 44) + b"no such size"
    assert with_provenance(broken, TEXT, order) == broken


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_output_says_how_it_was_made(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write(tmp_path / f"in{suffix}", SUFFIXES[suffix]), tmp_path / f"out{suffix}"
    upscale(source, out, "cubic", scale=2, dtype="float32")
    told = read_provenance(spec_of(out))
    assert told is not None
    assert told["model"] == {"name": "cubic"}
    assert told["parameters"]["factor"] == [2] * SUFFIXES[suffix]
    assert told["parameters"]["dtype"] == "float32"
    assert told["input"]["name"] == source.name
    if source.is_file():
        assert told["input"]["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert str(tmp_path) not in json.dumps(told)
    upscale(out, tmp_path / f"again{suffix}", "linear", scale=2)
    again = read_provenance(spec_of(tmp_path / f"again{suffix}"))
    assert again is not None
    assert again["before"]["model"] == {"name": "cubic"}
    assert run_command(["info", str(out)]) == 0
    assert "by geomedsr" in capsys.readouterr().out
    assert run_command(["info", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"] == told


def test_a_trained_model_is_named_with_its_hash(tmp_path: Path) -> None:
    source = write(tmp_path / "in.nii", 3)
    upscale(source, tmp_path / "out.nii", "mri-t1-x2")
    told = read_provenance(spec_of(tmp_path / "out.nii"))
    assert told is not None
    assert told["model"]["recipe"] == "mri-t1-x2"
    assert len(told["model"]["sha256"]) == 64
    assert told["model"]["seed"] == 2748


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_two_runs_of_one_day_have_the_same_bits(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    source = write(tmp_path / f"in{suffix}", SUFFIXES[suffix])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        upscale(source, tmp_path / name / f"out{suffix}", "linear", scale=2)
    bits = [
        {str(p.relative_to(tmp_path / name)): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("a", "b")
    ]
    assert bits[0] == bits[1]
    assert b"2023-11-14T22:13:20Z" in (tmp_path / "a" / "out.nii").read_bytes() if suffix == ".nii" else True


def test_a_date_that_is_none_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    source = write(tmp_path / "in.nii", 3)
    assert run_command(["upscale", str(source), "-o", str(tmp_path / "o.nii"), "-m", "linear", "--scale", "2"]) == 2
    assert "SOURCE_DATE_EPOCH is a number" in capsys.readouterr().err
    assert not (tmp_path / "o.nii").exists()


def test_only_the_ends_of_a_huge_file_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geomedsr.run.provenance._WHOLE", 100)
    monkeypatch.setattr("geomedsr.run.provenance._END", 10)
    (tmp_path / "a").write_bytes(bytes(200))
    first = fingerprint(tmp_path / "a")
    assert first["of"] == "size, first and last 64 MiB"
    (tmp_path / "a").write_bytes(bytes(199) + b"x")
    assert fingerprint(tmp_path / "a") != first
    assert fingerprint(tmp_path / "nowhere") == {"name": "nowhere"}


@pytest.mark.parametrize(
    "text", [None, "", "no JSON", "[1]", '{"geomedsr": 1}', '{"geomedsr": "1", "model": "x"}', "[" * 9999]
)
def test_a_text_that_is_none_says_nothing(text: str | None) -> None:
    assert read_provenance(text) is None


def test_a_sidecar_says_it_beside_the_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "in.nii.gz", 3)
    command = ["upscale", str(source), "-o", str(tmp_path / "out.nii.gz"), "-m", "linear", "--scale", "2", "--sidecar"]
    assert run_command(command) == 0
    told = json.loads((tmp_path / "out.json").read_text())["Provenance"]
    assert told == read_provenance(spec_of(tmp_path / "out.nii.gz"))
    (tmp_path / "out.nii.gz").unlink()
    assert run_command(command) == 2
    assert "out.json exists" in capsys.readouterr().err
    assert not (tmp_path / "out.nii.gz").exists()
    assert run_command([*command, "--overwrite"]) == 0


def test_bids_derivatives_have_their_names_and_fields(tmp_path: Path) -> None:
    anat = tmp_path / "raw" / "sub-01" / "ses-1" / "anat"
    anat.mkdir(parents=True)
    write(anat / "sub-01_ses-1_T1w.nii.gz", 3)
    out = tmp_path / "derivatives"
    assert (
        run_command(["upscale", str(tmp_path / "raw"), "-o", str(out), "-m", "linear", "--scale", "2", "--bids"]) == 0
    )
    made = out / "sub-01" / "ses-1" / "anat"
    assert sorted(path.name for path in made.iterdir()) == [
        "sub-01_ses-1_desc-sr_T1w.json",
        "sub-01_ses-1_desc-sr_T1w.nii.gz",
    ]
    told = json.loads((made / "sub-01_ses-1_desc-sr_T1w.json").read_text())
    assert told["Sources"] == ["bids:raw:sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"]
    assert told["SpatialReference"] == "orig"
    assert told["GeneratedBy"][0]["Name"] == "geomedsr"
    described = json.loads((out / "dataset_description.json").read_text())
    assert described["DatasetType"] == "derivative"
    assert described["DatasetLinks"] == {"raw": "../raw"}


def test_bids_is_for_images_in_mm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = write(tmp_path / "sub-01_T1w.tif", 2), tmp_path / "out"
    assert run_command(["upscale", str(source), "-o", str(out), "-m", "linear", "--scale", "2", "--bids"]) == 2
    assert "--bids is for images in mm; sub-01_T1w.tif" in capsys.readouterr().err
    assert not out.exists()


def test_names_that_are_not_of_bids_are_refused(tmp_path: Path) -> None:
    assert bids_name("sub-01_desc-x_T1w.nii") == "sub-01_desc-sr_T1w.nii"
    with pytest.raises(OutputError, match="BIDS names"):
        plan_targets([Found(tmp_path / "scan.nii", Path("scan.nii"))], tmp_path / "out", bids=True)
