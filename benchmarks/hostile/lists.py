"""What is written in words: recipes and pipelines in YAML, tables in CSV, items in JSON."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.hostile._case import Command, case
from benchmarks.hostile.nifti import image

PIPELINE = "model: linear\nscale: 2\noutput: {folder: out}\n"


def pipeline(folder: Path, text: str, **files: str) -> Command:
    """A pipeline, with files beside it (`list_csv` is list.csv)."""
    (folder / "a.nii").write_bytes(image())
    (folder / "p.yaml").write_text(text)
    for name, content in files.items():
        (folder / name.replace("_", ".")).write_text(content)
    return ("run", "p.yaml")


def recipe(folder: Path, text: str) -> Command:
    """A recipe, to be trained."""
    (folder / "r.yaml").write_text(text)
    return ("train", "r.yaml", "--data", ".", "--out", "out")


@case("it has the tag tag:yaml.org,2002:python/object/apply:os.system, and none is taken")
def tag(folder: Path) -> Command:
    """YAML: a tag that runs code"""
    return pipeline(folder, "inputs: !!python/object/apply:os.system ['touch owned']\n" + PIPELINE)


@case(r"it has a reference \(\*\), which is not taken")
def anchors(folder: Path) -> Command:
    """YAML: a bomb of anchors"""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return pipeline(folder, "\n".join(lines))


@case("the key 'model' is given twice")
def twice(folder: Path) -> Command:
    """YAML: a key given twice"""
    return pipeline(folder, "inputs: a.nii\n" + PIPELINE + "model: cubic\n")


@case(r"24 x 20 x 12 would become 240 x 200 x 120", code=0)
def octal(folder: Path) -> Command:
    """YAML: scale: 010, which is 10 and not 8"""
    return (*pipeline(folder, "inputs: a.nii\nmodel: linear\nscale: 010\noutput: {folder: out}\n"), "--dry-run")


@case("scale: Input should be a valid tuple")
def sexagesimal(folder: Path) -> Command:
    """YAML: scale: 1:30, which is a text and not 90"""
    return pipeline(folder, "inputs: a.nii\nmodel: linear\nscale: 1:30\noutput: {folder: out}\n")


@case("There is no model no")
def norway(folder: Path) -> Command:
    """YAML: model: no, which is a text and not false"""
    return pipeline(folder, "inputs: a.nii\nmodel: no\nscale: 2\noutput: {folder: out}\n")


@case("more than 32 levels deep")
def deep(folder: Path) -> Command:
    """YAML: 100,000 brackets deep"""
    return pipeline(folder, "inputs: " + "[" * 100_000)


@case("has more than 1048576 characters")
def huge(folder: Path) -> Command:
    """YAML: a file of 8 GB"""
    command = pipeline(folder, "")
    with open(folder / "p.yaml", "wb") as file:
        file.truncate(8 << 30)
    return command


@case(r"name: String should match pattern .* network\.name: Field required")
def target(folder: Path) -> Command:
    """YAML: a recipe for MONAI's ConfigParser, with _target_: os.system"""
    return recipe(
        folder, "network: {_target_: os.system, command: touch owned}\nname: $import os; os.system('touch x')\n"
    )


@case("which is not in its own folder; pass --allow-vrt-paths")
def climbing_table(folder: Path) -> Command:
    """CSV: a path that climbs out of the table's folder"""
    return pipeline(folder, "inputs: {csv: list.csv}\n" + PIPELINE, list_csv="path\n../../etc/a.nii\n")


@case("which is not fetched unasked; pass --allow-remote")
def remote_item(folder: Path) -> Command:
    """STAC: an asset at http://"""
    item = {"id": "a", "assets": {"data": {"href": "http://127.0.0.1:9/a.zarr"}}}
    return pipeline(folder, "inputs: {stac: i.json, assets: [data]}\n" + PIPELINE, i_json=json.dumps(item))


@case("which is not in its own folder")
def climbing_item(folder: Path) -> Command:
    """STAC: an asset that climbs out of the item's folder"""
    item = {"id": "../../owned", "assets": {"data": {"href": "../../a.nii"}}}
    return pipeline(folder, "inputs: {stac: i.json, assets: [data]}\n" + PIPELINE, i_json=json.dumps(item))


@case("would leave the output's folder")
def climbing_name(folder: Path) -> Command:
    """CSV: a name for the output that climbs out of its folder"""
    text = "inputs: {csv: list.csv, name: name}\n" + PIPELINE
    return pipeline(folder, text, list_csv="path,name\na.nii,../../owned\n")


@case("is no table: field larger than field limit")
def huge_field(folder: Path) -> Command:
    """CSV: a field of 200,000 letters"""
    return pipeline(folder, "inputs: {csv: list.csv}\n" + PIPELINE, list_csv="path\n" + "x" * 200_000)
