"""A small training in a process of its own, so that it can be killed, or be one of several.

python runner.py FOLDER RESUME THREADS [KEY=VALUE ...]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from support import SMALL_RECIPE, subjects

from geomedsr.errors import GeomedsrError
from geomedsr.recipe import Recipe
from geomedsr.training.loop import Subjects, train


def main() -> int:
    """Trains as it is told."""
    folder, resume, threads, *changes = sys.argv[1:]
    torch.set_num_threads(int(threads))
    recipe = Recipe.from_yaml(SMALL_RECIPE, "small", dict(change.split("=", 1) for change in changes))
    images = Subjects(*(subjects(recipe, range(i, i + 2)) for i in (0, 2, 4)))
    try:
        train(recipe, images, Path(folder), resume=resume == "resume", quiet=True)
    except GeomedsrError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
