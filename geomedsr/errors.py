"""What can go wrong, as one tree. Each error is one sentence: what was asked, what was found, what to do.

GeomedsrError                exit code 2: a mistake that the user can mend
├── GridError                a geometry that cannot be
├── InputError               a file that is missing, broken or not what it claims
├── OutputError              a target that exists, cannot be written, or is the input
├── ModelError               a model that is missing, broken or does not fit the image
├── RecipeError              a recipe that names what does not exist or cannot be
├── JobError                 a job that was begun otherwise, or cannot go on
│   ├── LockedError          another run is at the same output
│   ├── SetAsideError        exit code 4: some blocks failed, all others are done
│   └── ClusterError         a scheduler or workers that cannot be worked with
├── NothingMatchedError      exit code 3: no input matched
└── FailedError              exit code 1: the work itself failed
    ├── WriteFailedError     the disk is full, or the device refused
    ├── WrongOutputError     what was written is not what was promised
    └── OutOfMemoryError     the smallest tile does not fit
"""

from __future__ import annotations

__all__ = [
    "ClusterError",
    "FailedError",
    "GeomedsrError",
    "GridError",
    "InputError",
    "JobError",
    "LockedError",
    "ModelError",
    "NothingMatchedError",
    "OutOfMemoryError",
    "OutputError",
    "RecipeError",
    "SetAsideError",
    "WriteFailedError",
    "WrongOutputError",
]


class GeomedsrError(Exception):
    """The root: its text is shown to the user as it is, its `exit_code` is the program's."""

    exit_code: int = 2


class GridError(GeomedsrError):
    """A geometry that cannot be: a singular affine, a box outside, a shape that does not divide."""


class InputError(GeomedsrError):
    """An input file that is missing, broken, or not what it claims to be."""


class OutputError(GeomedsrError):
    """A target that exists already, cannot be written, or is the input itself."""


class ModelError(GeomedsrError):
    """A model that is missing, broken, or does not fit the image."""


class RecipeError(GeomedsrError):
    """A recipe with a key, a value or data that cannot be."""


class JobError(GeomedsrError):
    """A job that was begun with other choices, or cannot go on as it is."""


class LockedError(JobError):
    """Another run is at the same output."""


class SetAsideError(JobError):
    """Some blocks of an output failed each time they were tried; all others are done."""

    exit_code = 4


class ClusterError(JobError):
    """A scheduler that does not answer, or workers that are not like this program."""


class NothingMatchedError(GeomedsrError):
    """No input matched what was asked for."""

    exit_code = 3


class FailedError(GeomedsrError):
    """The work itself failed, though what was asked was right."""

    exit_code = 1


class WriteFailedError(FailedError):
    """The output could not be written: the disk is full, or the device refused."""


class WrongOutputError(FailedError):
    """An output was read back, and is not what was promised."""


class OutOfMemoryError(FailedError):
    """Even the smallest tile does not fit into memory."""
