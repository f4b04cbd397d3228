"""A pipeline is a value: which images go through which model, and where to. YAML in.

    inputs:
      - scenes/*.zarr
      - {csv: list.csv, column: path}
      - {stac: items.json, assets: [visual]}
    model: s2-rgbn-x2
    output:
      folder: fine
      name: "{name}_x2"
      format: zarr
      shards: 4096

Paths are those of the folder in which the program is started; paths in a table or in items are from the file that
they stand in. Only what is named is read: of an item, the assets by their keys.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from geomedsr.errors import RecipeError
from geomedsr.grid import Shape
from geomedsr.stage import Section
from geomedsr.strict import read_text, sentence, values_of

__all__ = ["Items", "Output", "Pipeline", "Table", "read_pipeline"]

FIELDS = ("name", "stem", "number")
"""What stands in braces in a name: the path below what was named, its last part, and the number from 1."""


def _numbers(value: object) -> object:
    """One number for all axes, or one for each."""
    return (value,) if isinstance(value, int) and not isinstance(value, bool) else value


Numbers = Annotated[tuple[Annotated[int, Field(strict=True, ge=0)], ...], BeforeValidator(_numbers)]


class Table(Section):
    """A table of images: a CSV file with a column of paths, and perhaps one of names for their outputs."""

    csv: str
    column: str = "path"
    name: str | None = None


class Items(Section):
    """A STAC item, or a collection of them, as a JSON file; of each item the assets with these keys."""

    stac: str
    assets: tuple[str, ...] = Field(min_length=1)


class Output(Section):
    """Where outputs go, what they are called, and how they are stored.

    `folder` takes any number of outputs, `file` one. `name` is what an output is called in its folder, without a
    suffix: `{name}` is the input's path below what was named, `{stem}` its last part, `{number}` counts from 1.
    `chunks`, `shards` and `compressor` are zarr's; `options` are creation options of any format.
    """

    folder: Path | None = None
    file: Path | None = None
    name: str = "{name}"
    format: Literal["nii", "nii.gz", "tif", "cog", "zarr"] | None = None
    chunks: Numbers | None = None
    shards: Numbers | None = None
    compressor: str | None = None
    options: Mapping[str, str | int | float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_place(self) -> Output:
        if (self.folder is None) == (self.file is None):
            raise ValueError("give a folder, or a file")
        return self

    @field_validator("name")
    @classmethod
    def _known_fields(cls, name: str) -> str:
        try:
            found = {field for _, field, _, _ in string.Formatter().parse(name) if field is not None}
        except ValueError as error:
            raise ValueError(f"'{name}' is no name: {error}") from error
        if strange := sorted(found - set(FIELDS)):
            raise ValueError(f"'{name}' has {{{strange[0]}}}; there are {', '.join(f'{{{one}}}' for one in FIELDS)}")
        if not found:
            raise ValueError(f"'{name}' would name all outputs alike; it needs {{name}}, {{stem}} or {{number}}")
        return name

    @property
    def place(self) -> Path:
        """The folder or the file."""
        place = self.folder or self.file
        assert place is not None, "one of them is given"
        return place

    @property
    def creation(self) -> dict[str, str]:
        """All creation options as texts."""
        own = {"chunks": self.chunks, "shards": self.shards}
        shapes = {key: ",".join(map(str, value)) for key, value in own.items() if value is not None}
        packed = {} if self.compressor is None else {"compressor": self.compressor}
        return {**{key: str(value) for key, value in self.options.items()}, **shapes, **packed}


class Pipeline(Section):
    """Images, a model, where the outputs go, and the same choices that `geomedsr upscale` has."""

    about: str = ""
    inputs: tuple[str | Table | Items, ...] = Field(min_length=1)
    model: str
    output: Output
    scale: Numbers | None = None
    bands: tuple[str | int, ...] | None = None
    axes: Shape | None = None
    device: str = "auto"
    precision: Literal["float32", "bf16"] = "float32"
    backend: Literal["auto", "torch", "openvino"] = "auto"
    tile: Numbers | None = None
    memory: str | None = None
    dtype: str | None = None

    @field_validator("inputs", mode="before")
    @classmethod
    def _one_input(cls, value: Any) -> Any:  # noqa: ANN401 - whatever the YAML holds
        return (value,) if isinstance(value, (str, dict)) else value

    @property
    def band_list(self) -> str | None:
        """The bands as `--bands` takes them."""
        return None if self.bands is None else ",".join(map(str, self.bands))


def read_pipeline(path: Path, changes: Mapping[str, str] | None = None) -> Pipeline:
    """The pipeline in a YAML file, with some keys changed (`{"output.folder": "fine"}`).

    Raises:
        RecipeError: there is no such file, or it is no pipeline; the message names the keys.
    """
    values = values_of(read_text(path, "The pipeline"), str(path), changes)
    if not isinstance(values, dict):
        raise RecipeError(f"{path} is no pipeline: it holds no keys.")
    try:
        return Pipeline.model_validate(values)
    except ValidationError as error:
        raise RecipeError(f"{path}: {sentence(error)}") from error
