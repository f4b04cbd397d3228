"""Which channels of a file a model takes: by what the user says, by name, or in their order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from geomedsr.errors import ModelError
from geomedsr.grid import Box
from geomedsr.image import ImageSpec, Source, Voxels

__all__ = ["MADE_UP", "Selected", "answers_to", "choose_channels", "contradiction", "parse_bands"]

_WORDS = {"b2": "blue", "b3": "green", "b4": "red", "b8": "nir"}
"""What Sentinel-2's bands are called in words, for files that describe a band by its colour."""

MADE_UP = re.compile(r"(band|channel|frame|intensity)( \d+)?")
"""Names that a format made up for channels that have none."""


@dataclass
class Selected:
    """Some channels of a source, in the given order; itself a Source."""

    source: Source
    index: tuple[int, ...]

    @property
    def spec(self) -> ImageSpec:
        """The source's spec with these channels only."""
        return self.source.spec.with_channels(self.index)

    def read(self, box: Box) -> Voxels:
        """The voxels of a box, these channels only."""
        return self.source.read(box)[list(self.index)]

    def close(self) -> None:
        """Lets go of the source's handles."""
        self.source.close()


def choose_channels(
    model: str, wanted: Sequence[str], present: Sequence[str], file: str
) -> tuple[tuple[int, ...] | None, str | None]:
    """The indices of the channels that a model takes (None: all, as they are), and a note where that is a guess.

    Raises:
        ModelError: the file has neither their names nor their number.

    Example:
        >>> choose_channels("m", ["B2", "B8"], ["B08", "B8A", "B02"], "a.tif")
        ((2, 0), None)
    """
    if len(wanted) == 1:
        return None, None  # a model of one channel works on each channel alone
    matched = _by_name(wanted, present)
    if matched is not None:
        return (None if matched == tuple(range(len(present))) else matched), None
    names = ", ".join(wanted)
    if len(wanted) == len(present):
        return None, f"{file} does not name its channels {names}; they are taken in the order of the file."
    raise ModelError(
        f"{model} needs {len(wanted)} channels ({names}); {file} has {len(present)}{_recognised(wanted, present)}. "
        f"Pass --bands with the numbers or names of its {names}, in this order."
    )


def _recognised(wanted: Sequence[str], present: Sequence[str]) -> str:
    """Which of the wanted channels answer by name, so that only the others must be looked up."""
    hits = {name: [i for i, one in enumerate(present) if answers_to(one) & answers_to(name)] for name in wanted}
    known = [f"{name} is {' or '.join(str(i + 1) for i in found)}" for name, found in hits.items() if found]
    return f" (by name, {', '.join(known)})" if known else ""


def contradiction(model: str, wanted: Sequence[str], chosen: Sequence[str], file: str) -> str | None:
    """A sentence where channels carry names that are not those of what a model takes in their places.

    Example:
        >>> contradiction("m", ["B2", "B3"], ["B03", "band 2"], "a.tif")
        'a.tif calls B03 what m takes as B2: the bands may be in a wrong order; choose with --bands.'
    """
    pairs = [
        (have, want)
        for have, want in zip(chosen, wanted, strict=True)
        if not MADE_UP.fullmatch(have.lower()) and not answers_to(have) & answers_to(want)
    ]
    if not pairs:
        return None
    haves, wants = (", ".join(names) for names in zip(*pairs, strict=True))
    return (
        f"{file} calls {haves} what {model} takes as {wants}: the bands may be in a wrong order; choose with --bands."
    )


def parse_bands(bands: str, present: Sequence[str], file: str) -> tuple[int, ...]:
    """The channel indices that `--bands` names: numbers from 1, or names.

    Raises:
        ModelError: the file has no such channel.

    Example:
        >>> parse_bands("3,nir", ["red", "nir", "blue"], "a.tif")
        (2, 1)
    """
    return tuple(_band(text.strip(), present, file) for text in bands.split(","))


def _band(text: str, present: Sequence[str], file: str) -> int:
    if text.isdigit():
        if 1 <= int(text) <= len(present):
            return int(text) - 1
        raise ModelError(f"There is no band {text} in {file}; it has {len(present)}, counted from 1.")
    exact = [i for i, name in enumerate(present) if name.lower() == text.lower()]
    close = exact or [i for i, name in enumerate(present) if answers_to(name) & answers_to(text)]
    if len(close) != 1:
        raise ModelError(f"{file} has {len(close)} bands that answer to '{text}'; its bands are {', '.join(present)}.")
    return close[0]


def _by_name(wanted: Sequence[str], present: Sequence[str]) -> tuple[int, ...] | None:
    """The one way to find all wanted names among those present, or None."""
    keys = [answers_to(name) for name in present]
    found = [[i for i, key in enumerate(keys) if key & answers_to(name)] for name in wanted]
    index = tuple(hits[0] for hits in found if len(hits) == 1)
    return index if len(index) == len(set(index)) == len(wanted) else None


def answers_to(name: str) -> set[str]:
    """What a channel answers to: `B02 (Blue)` to b2 and blue, `B08` to b8 and nir only by its number's word.

    Example:
        >>> sorted(answers_to("B02 - Blue"))
        ['b2', 'blue']
    """
    text = name.strip().lower()
    number = re.match(r"b0*(\d+a?)(?![0-9a-z])", text)
    keys = {f"b{number[1]}"} if number else set()
    tokens = set(re.split(r"[^a-z0-9]+", text))
    words = tokens & set(_WORDS.values()) if not tokens & {"edge", "rededge", "narrow"} else set()
    spoken = {_WORDS[key] for key in keys if key in _WORDS and not words}
    return keys | words | spoken | ({text} if not number and not words else set())
