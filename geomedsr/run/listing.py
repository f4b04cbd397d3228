"""Images by lists: what a pipeline names, as files, tables and STAC items, in one list with the outputs' names."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from geomedsr.errors import InputError, RecipeError
from geomedsr.io import suffix_of
from geomedsr.io._limits import limits, size
from geomedsr.io._zarr_place import Place, is_url
from geomedsr.pipeline import Items, Output, Pipeline, Table
from geomedsr.run.inputs import Found, archive_of, expand

__all__ = ["listed"]


def listed(pipeline: Pipeline, *, keep_going: bool = False) -> list[Found]:
    """The images of a pipeline, each once, with the names that its output gives them.

    Raises:
        InputError: an image, a table or an item is missing, or is not what it claims to be.
        NothingMatchedError: a folder, a glob or a list holds no image.
    """
    found: dict[Path, Found] = {}
    exclude = pipeline.output.folder
    for one in pipeline.inputs:
        for image in _images(one, exclude, keep_going):
            found.setdefault(image.path, image)
    return [_named(image, number, pipeline.output) for number, image in enumerate(found.values(), start=1)]


def _images(one: str | Table | Items, exclude: Path | None, keep_going: bool) -> Iterator[Found]:
    if isinstance(one, str):
        yield from expand([one], exclude, keep_going=keep_going)
        return
    for path, name in _rows(one) if isinstance(one, Table) else _assets(one):
        images = expand([path], keep_going=keep_going)
        for image in images:
            yield image if name is None else _renamed(image, name, alone=len(images) == 1)


def _renamed(image: Found, name: str, *, alone: bool) -> Found:
    """An image with the name that its list gives it; of an archive's images each adds its own."""
    suffix = suffix_of(image.relative) or ".zarr"
    whole = name if alone else f"{name}_{image.relative.name.removesuffix(suffix)}"
    return Found(image.path, Path(f"{whole}{suffix}"), image.failure)


def _rows(table: Table) -> Iterator[tuple[str, str | None]]:
    """Paths and names from a CSV file."""
    try:
        rows = list(csv.DictReader(io.StringIO(_text(table.csv), newline="")))
    except csv.Error as error:
        raise InputError(f"{table.csv} is no table: {error}.") from error
    if not rows:
        raise InputError(f"{table.csv} lists no image: it has no rows.")
    for key in (table.column, table.name):
        if key is not None and key not in rows[0]:
            raise RecipeError(f"inputs: {table.csv} has no column {key}; it has {', '.join(map(str, rows[0]))}.")
    for row in rows:
        if row[table.column]:
            yield _beside(table.csv, row[table.column]), row[table.name] if table.name else None


def _assets(items: Items) -> Iterator[tuple[str, str]]:
    """Hrefs of the assets that were named, and what each is called: the item's id and the asset's key."""
    for item in _items(items.stac):
        known = item.get("assets")
        if not isinstance(known, dict) or not isinstance(item.get("id"), str):
            raise InputError(f"{items.stac} is no STAC: an item has no id or no assets.")
        for key in items.assets:
            href = known.get(key, {}).get("href") if isinstance(known.get(key), dict) else None
            if not isinstance(href, str):
                raise InputError(
                    f"The item {item['id']} of {items.stac} has no asset {key}; it has {', '.join(known)}."
                )
            name = item["id"] if len(items.assets) == 1 else f"{item['id']}_{key}"
            yield _beside(items.stac, href), name.replace("/", "_")


def _items(place: str) -> Sequence[dict[str, Any]]:
    try:
        data = json.loads(_text(place))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is no JSON: {error}.") from error
    items = data.get("features", [data]) if isinstance(data, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InputError(f"{place} is neither a STAC item nor a collection of items.")
    if not items:
        raise InputError(f"{place} lists no image: it has no items.")
    return items


def _text(place: str) -> str:
    try:
        found = Place(Path(place))
        if not found.is_remote and found.path.is_file() and found.path.stat().st_size > limits().text:
            raise InputError(f"{place} has more than the {size(limits().text)} that a list may have; split it.")
        data = found.read()
        if data is None:
            raise InputError(f"There is no {place}.")
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"{place} cannot be read: {error}.") from error


def _beside(place: str, path: str) -> str:
    """A path as its list means it: from the list's own folder, and in it unless files may name others.

    Raises:
        InputError: it leads elsewhere.
    """
    path = path.removeprefix("file://")
    if is_url(path):
        if not limits().remote and not _is_beside(place, path):
            raise InputError(f"{place} names {path:.200}, which is not fetched unasked; pass --allow-remote.")
        return path
    found = path if os.path.isabs(path) else os.path.normpath(Path(place).parent / path)
    if not limits().outside and not _is_beside(place, found):
        raise InputError(f"{place} names {path:.200}, which is not in its own folder; pass --allow-vrt-paths.")
    return found


def _is_beside(place: str, path: str) -> bool:
    """Whether a path lies in the folder of a list, by its name."""
    same_kind = is_url(path) == is_url(place)
    return same_kind and _whole(path).is_relative_to(_whole(os.fspath(Path(place).parent)))


def _whole(path: str) -> Path:
    return Path(os.path.normpath(path) if is_url(path) else os.path.abspath(path))


def _named(image: Found, number: int, output: Output) -> Found:
    """The image with the name of its output."""
    suffix = suffix_of(image.relative) or (".zarr" if archive_of(image.path) is not None else "")
    whole = str(image.relative).removesuffix(suffix)
    name = output.name.format(name=whole, stem=Path(whole).name, number=number)
    relative = Path(os.path.normpath(name + suffix))
    if relative.is_absolute() or ".." in relative.parts:
        raise RecipeError(f"output.name: {name} would leave the output's folder.")
    return Found(image.path, relative, image.failure)
