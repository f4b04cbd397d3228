"""Pipelines are taken at their word, and what they name is found, or the mistake is told in one sentence."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from job_support import run_and_die

from geomedsr.cli import run_command
from geomedsr.errors import GeomedsrError, InputError, RecipeError
from geomedsr.grid import Box
from geomedsr.image import Image
from geomedsr.io import format_of
from geomedsr.io._limits import Limits, within
from geomedsr.pipeline import Pipeline, read_pipeline
from geomedsr.run.listing import listed

WHOLE = """
inputs: in
model: linear
scale: 2
output: {folder: out, format: zarr, chunks: 16}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def image(path: str, times: int = 1) -> Path:
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    voxels = np.arange(80, dtype=np.float32).reshape(1, 8, 10) * times
    sink = format_of(target).create_sink(target, Image.of(voxels).spec)
    sink.write(Box.whole((8, 10)), voxels)
    sink.commit()
    return target


def pipeline(text: str = WHOLE, **changes: str) -> Pipeline:
    Path("p.yaml").write_text(text, encoding="utf-8")
    return read_pipeline(Path("p.yaml"), changes)


def names(**changes: str) -> list[str]:
    return [str(found.relative) for found in listed(pipeline(**changes))]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ("scal: 2", "scal: no such key"),
        ("scale: two", "scale: Input should be a valid tuple"),
        ("scale: 2.5", "scale: Input should be a valid tuple"),
        ("scale: true", "scale: Input should be a valid tuple"),
        ("precision: float16", "precision: Input should be 'float32' or 'bf16'"),
        ("model: cubic", "the key 'model' is given twice"),
        ("output: {folder: a, file: b.zarr}", "output: give a folder, or a file"),
        ("output: {folder: a, name: fine}", "would name all outputs alike"),
        ("output: {folder: a, name: '{date}'}", "has {date}; there are {name}, {stem}, {number}"),
        ("output: {folder: a, name: '{name'}", "is no name"),
        ("inputs: []", "inputs: Tuple should have at least 1 item"),
        ("inputs: [{stac: a.json}]", "assets: Field required"),
        ("inputs: [{csv: a.csv, separator: x}]", "no such key"),
        ("inputs: &a [*a]", "it has a reference"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(
    changed: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = changed.partition(":")[0]
    kept = [line for line in WHOLE.splitlines() if key == "model" or not line.startswith(f"{key}:")]
    Path("p.yaml").write_text("\n".join([*kept, changed]), encoding="utf-8")
    assert run_command(["run", "p.yaml"]) == 2
    message = capsys.readouterr().err
    assert sentence in message
    assert message.startswith("geomedsr: error: p.yaml")
    assert "Traceback" not in message
    assert not Path("out").exists()


@pytest.mark.parametrize("text", ["", "- a", "inputs: [", "\x00"])
def test_what_is_no_pipeline_is_told(text: str) -> None:
    with pytest.raises(RecipeError, match=r"p\.yaml"):
        pipeline(text)


def test_a_folder_keeps_its_names_and_the_template_changes_them() -> None:
    image("in/a.tif")
    image("in/deep/b.tif")
    assert names() == ["a.tif", "deep/b.tif"]
    assert names(**{"output.name": "x/{name}_x2"}) == ["x/a_x2.tif", "x/deep/b_x2.tif"]
    assert names(**{"output.name": "'{number}_{stem}'"}) == ["1_a.tif", "2_b.tif"]


@pytest.mark.parametrize("name", ["../{name}", "/tmp/{name}", "{stem}/../../x"])
def test_a_name_that_leaves_the_folder_is_refused(name: str) -> None:
    image("in/a.tif")
    with pytest.raises(RecipeError, match="would leave the output's folder"):
        names(**{"output.name": f"'{name}'"})


def test_a_table_names_paths_from_its_own_folder() -> None:
    image("data/a.tif")
    image("data/b.tif")
    Path("data/list.csv").write_text("scene,file,note\nfirst,a.tif,x\nsecond,b.tif,\n,,\n", encoding="utf-8-sig")
    assert names(inputs="{csv: data/list.csv, column: file}") == ["a.tif", "b.tif"]
    assert names(inputs="{csv: data/list.csv, column: file, name: scene}") == ["first.tif", "second.tif"]


def test_items_give_the_assets_that_were_named() -> None:
    for name in ("a", "b"):
        image(f"data/{name}/red.tif")
        image(f"data/{name}/nir.tif")
    Path("data/items.json").write_text(json.dumps(collection("a", "b")), encoding="utf-8")
    assert names(inputs="{stac: data/items.json, assets: [red]}") == ["a.tif", "b.tif"]
    both = names(inputs="{stac: data/items.json, assets: [red, nir]}")
    assert both == ["a_red.tif", "a_nir.tif", "b_red.tif", "b_nir.tif"]


def collection(*ids: str) -> dict[str, Any]:
    return {"type": "FeatureCollection", "features": [item(one) for one in ids]}


def item(name: str) -> dict[str, Any]:
    assets = {key: {"href": f"./{name}/{key}.tif"} for key in ("red", "nir")}
    return {"type": "Feature", "id": name, "assets": {**assets, "far": {"href": "https://nowhere.example/x.tif"}}}


@pytest.mark.parametrize(
    ("inputs", "files", "sentence"),
    [
        ("{csv: no.csv}", {}, r"There is no no\.csv"),
        ("{csv: a.csv}", {"a.csv": "file\nx.tif\n"}, "has no column path; it has file"),
        ("{csv: a.csv}", {"a.csv": "path\n"}, "it has no rows"),
        ("{csv: a.csv}", {"a.csv": "path\nx.tif\n"}, r"There is no file x\.tif"),
        ("{csv: a.csv}", {"a.csv": "\udcff"}, r"a\.csv"),
        ("{stac: a.json, assets: [red]}", {"a.json": "{"}, "is no JSON"),
        ("{stac: a.json, assets: [red]}", {"a.json": "[]"}, "neither a STAC item nor"),
        ("{stac: a.json, assets: [red]}", {"a.json": "{}"}, "an item has no id or no assets"),
        ("{stac: a.json, assets: [red]}", {"a.json": '{"features": []}'}, "it has no items"),
        ("{stac: a.json, assets: [blue]}", {"a.json": json.dumps(item("a"))}, "has no asset blue; it has red, nir"),
        ("{stac: a.json, assets: [far]}", {"a.json": json.dumps(item("a"))}, "x.tif, which is not fetched unasked"),
        ("{csv: a.csv}", {"a.csv": "path\ns3://bucket/x.zarr\n"}, "s3://bucket/x.zarr, which is not fetched unasked"),
        ("{csv: a.csv}", {"a.csv": "path\n../x.tif\n"}, r"names \.\./x\.tif, which is not in its own folder"),
        ("{csv: a.csv}", {"a.csv": "path\nb/../../x.tif\n"}, "which is not in its own folder; pass --allow-vrt"),
        ("{csv: a.csv}", {"a.csv": "path\n/etc/x.tif\n"}, "which is not in its own folder"),
        ("{csv: a.csv}", {"a.csv": "path\nfile:///etc/x.tif\n"}, "which is not in its own folder"),
        ("{csv: a.csv}", {"a.csv": "path\n" + "x" * 200_000}, "is no table: field larger than field limit"),
        ("{csv: a.csv}", {"a.csv": "path\na\0b.tif\n"}, r"a\.csv|There is no file|cannot be"),
        ("{stac: a.json, assets: [red]}", {"a.json": "[" * 100_000}, "is no JSON"),
    ],
)
def test_a_list_that_cannot_be_read_is_told(inputs: str, files: dict[str, str], sentence: str) -> None:
    for name, text in files.items():
        Path(name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(GeomedsrError, match=sentence):
        names(inputs=inputs)


def test_a_list_names_more_when_it_is_allowed() -> None:
    Path("a.json").write_text(json.dumps(item("a")), encoding="utf-8")
    Path("a.csv").write_text("path\n/nowhere/x.tif\n", encoding="utf-8")
    with within(Limits(remote=True)), pytest.raises(InputError, match="is a URL and no zarr store"):
        names(inputs="{stac: a.json, assets: [far]}")
    with within(Limits(outside=True)), pytest.raises(InputError, match=r"There is no file /nowhere/x\.tif"):
        names(inputs="{csv: a.csv}")


def test_a_run_of_many_images_is_one_job(capsys: pytest.CaptureFixture[str]) -> None:
    image("in/a.tif")
    image("in/b.zarr")
    Path("p.yaml").write_text(WHOLE, encoding="utf-8")
    assert run_command(["run", "p.yaml", "--dry-run", "-q"]) == 0
    assert not Path("out").exists()
    assert run_command(["run", "p.yaml"]) == 0
    assert capsys.readouterr().out.split()[-2:] == ["out/a.zarr", "out/b.zarr"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.zarr", "b.zarr"]
    assert run_command(["run", "p.yaml"]) == 2
    assert run_command(["run", "p.yaml", "--skip-existing"]) == 0
    assert run_command(["run", "p.yaml", "--overwrite", "--set", "scale=3"]) == 0


def test_a_pipeline_may_name_the_backend_that_its_precision_needs() -> None:
    image("in/a.tif")
    Path("p.yaml").write_text(WHOLE + "precision: bf16", encoding="utf-8")
    assert run_command(["run", "p.yaml", "--dry-run", "-q"]) == 2
    assert run_command(["run", "p.yaml", "-q", "--set", "backend=torch"]) == 0


def test_what_is_said_of_a_file_in_a_job_is_heard(capsys: pytest.CaptureFixture[str]) -> None:
    image("in/a.tif", times=10)
    Path("p.yaml").write_text(WHOLE.replace("zarr, chunks: 16", "tif") + "dtype: uint8", encoding="utf-8")
    assert run_command(["run", "p.yaml", "--json"]) == 0
    told = capsys.readouterr()
    assert told.err.count("check ok: out/a.tif") == 1
    (warning,) = json.loads(told.out)["warnings"]
    assert "do not fit into uint8" in warning
    assert told.err.count(f"geomedsr: warning: {warning}") == 1


def test_a_run_goes_on_with_the_images_that_are_left(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b", "c"):
        image(f"in/{name}.tif")
    Path("p.yaml").write_text(WHOLE, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geomedsr.run.job.Job.begin", beginning_fails_at(1))
        assert run_command(["run", "p.yaml", "-q"]) == 4
    capsys.readouterr()
    assert run_command(["run", "p.yaml", "--status"]) == 0
    assert "2 of 3 images complete" in capsys.readouterr().out
    assert run_command(["run", "p.yaml", "-q"]) == 0
    assert capsys.readouterr().out.split() == ["out/b.zarr"]
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.zarr", "b.zarr", "c.zarr"]


def test_a_file_that_appeared_before_it_was_journaled_is_the_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    image("in/a.tif")
    Path("p.yaml").write_text(WHOLE.replace("zarr, chunks: 16", "tif"), encoding="utf-8")
    assert run_and_die(["run", "p.yaml", "-q"], "after a file", 1) == -9
    assert Path("out/a.tif").exists()
    assert run_command(["run", "p.yaml", "-q"]) == 0
    assert capsys.readouterr().out.split() == ["out/a.tif"]
    assert os.listdir("out") == ["a.tif"]
    assert run_command(["run", "p.yaml", "-q"]) == 2


def beginning_fails_at(number: int) -> Any:
    from geomedsr.run.job import Job

    begin = Job.begin

    def failing(self: Job, image: int, listener: Any) -> Any:
        if image == number:
            raise InputError("in/b.tif cannot be read.")
        return begin(self, image, listener)

    return failing
