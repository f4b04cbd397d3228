"""Models: pickles, other networks' weights, weights that are no numbers, files that lie about themselves."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

import geomedsr
from benchmarks.hostile._case import Command, case
from benchmarks.hostile.nifti import image

SHIPPED = Path(geomedsr.__file__).parent / "models" / "mri-t1-x2-tiny"


class _Owned:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("touch owned",)


def upscale(folder: Path, model: str = "model") -> Command:
    """The command that uses a model."""
    (folder / "a.nii").write_bytes(image())
    return ("upscale", "a.nii", "-o", "out.nii", "-m", model)


def model(
    folder: Path,
    weights: Callable[[bytes], bytes] = bytes,
    config: Callable[[dict[str, Any]], object] = lambda values: None,
    signed: bool = True,
) -> Command:
    """A model that ships with the package, changed; `signed` with the checksum of its changed weights."""
    shutil.copytree(SHIPPED, folder / "model")
    data = weights((folder / "model/model.safetensors").read_bytes())
    (folder / "model/model.safetensors").write_bytes(data)
    values = json.loads((folder / "model/config.json").read_text())
    if signed:
        values["sha256"] = hashlib.sha256(data).hexdigest()
    config(values)
    (folder / "model/config.json").write_text(json.dumps(values))
    return upscale(folder)


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    """Weights changed as arrays by name."""

    def weights(data: bytes) -> bytes:
        arrays = dict(load(data))
        change(arrays)
        return bytes(save(arrays))

    return weights


def spoil(arrays: dict[str, Any]) -> None:
    """One weight is no number."""
    first = next(iter(arrays))
    arrays[first] = np.where(np.arange(arrays[first].size).reshape(arrays[first].shape) == 0, np.nan, arrays[first])
    arrays[first] = arrays[first].astype(np.float32)


@case("is no safetensors file")
def pickled(folder: Path) -> Command:
    """checkpoint: a pickle that runs code, under the name model.safetensors"""
    return model(folder, lambda data: pickle.dumps(_Owned()))


@case("is no model: it has no config.json|There is no model")
def pickle_alone(folder: Path) -> Command:
    """checkpoint: a .pth"""
    (folder / "model.pth").write_bytes(pickle.dumps(_Owned()))
    return upscale(folder, "model.pth")


@case(r"has an unknown owned|it lacks ")
def other_names(folder: Path) -> Command:
    """checkpoint: weights of other names"""
    return model(folder, changed(lambda arrays: arrays.update(owned=arrays.pop(next(iter(arrays))))))


@case(r" is \(1,\), not \(")
def other_shapes(folder: Path) -> Command:
    """checkpoint: weights of other shapes"""
    return model(folder, changed(lambda arrays: arrays.update({next(iter(arrays)): np.zeros(1, np.float32)})))


@case("has weights that are not finite")
def nan_weights(folder: Path) -> Command:
    """checkpoint: a weight that is NaN"""
    return model(folder, changed(spoil))


@case("its SHA-256 differs")
def lying_checksum(folder: Path) -> Command:
    """checkpoint: weights that are not those its metadata tells of"""
    return model(folder, lambda data: data[:-1] + b"\x01", signed=False)


@case("is no safetensors file: .*[Hh]eader")
def huge_header(folder: Path) -> Command:
    """checkpoint: a header that claims 100 GB"""
    return model(folder, lambda data: struct.pack("<Q", 100 << 30) + data[8:])


@case("is no safetensors file")
def lying_offsets(folder: Path) -> Command:
    """checkpoint: tensors that lie beyond the file"""
    head = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 4 << 40]}}).encode()
    return model(folder, lambda data: struct.pack("<Q", len(head)) + head)


@case("has a config.json that is not understood")
def lying_network(folder: Path) -> Command:
    """checkpoint: a network of 10^9 channels"""
    return model(folder, config=lambda values: values["network"].update(width=10**9))


@case("has a config.json that is not understood")
def other_plugin(folder: Path) -> Command:
    """checkpoint: a network that is a path to somebody's code"""
    return model(folder, config=lambda values: values["network"].update(name="../../evil"))


@case("cannot be read|is no geomedsr model of format 1")
def deep_config(folder: Path) -> Command:
    """checkpoint: a config.json 100,000 brackets deep"""
    command = model(folder)
    (folder / "model/config.json").write_text("[" * 100_000)
    return command
