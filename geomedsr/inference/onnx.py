"""A network as an ONNX file with open lengths, compared with torch before it appears."""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import torch

from geomedsr.errors import GeomedsrError, ModelError
from geomedsr.inference.openvino_backend import unseen
from geomedsr.networks._network import Network

__all__ = ["OPSET", "to_onnx"]

OPSET = 17
"""The set of operations that is written: from 2022, which the runtimes in use know."""

_NEEDED = ("onnx", "onnxruntime")
_TOLERANCE = 1e-4
_UNSEEN = ((1, (28, 18, 12)), (3, (17, 33, 20)))


def to_onnx(network: Network, metadata: Mapping[str, str]) -> bytes:
    """The network as an ONNX file: `lr` (batch, channels, *lengths) float32 in, `sr` out, any batch and lengths.

    Before it is given it has been run by onnxruntime on shapes that it was not recorded with, and has given what
    torch gives, to rounding. `metadata` is written into it.

    Raises:
        GeomedsrError: onnx or onnxruntime is not installed.
        ModelError: the network cannot be written as ONNX, or gives something else there.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise GeomedsrError(f"Exporting needs {' and '.join(missing)}, not installed here; install geomedsr[onnx].")
    written = _with(metadata, _recorded(network))
    _check(network, written)
    return written


def _recorded(network: Network) -> bytes:
    axes = range(2, 2 + network.task.ndim)
    open_axes = {name: {0: "batch", **{axis: f"{name}_{axis - 2}" for axis in axes}} for name in ("lr", "sr")}
    stream = io.BytesIO()
    try:
        with warnings.catch_warnings(), torch.no_grad(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of values that are recorded as constants: the result is checked
            torch.onnx.export(
                network.eval(),
                (unseen(network, 2, (16, 20, 24)),),
                stream,  # type: ignore[arg-type]  # it takes streams, too
                dynamo=False,
                opset_version=OPSET,
                input_names=["lr"],
                output_names=["sr"],
                dynamic_axes=open_axes,
            )
    except Exception as error:
        raise ModelError(f"The network {type(network).__name__} cannot be written as ONNX.") from error
    return stream.getvalue()


def _with(metadata: Mapping[str, str], written: bytes) -> bytes:
    import onnx

    model = onnx.load_from_string(written)
    model.producer_name = "geomedsr"
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _check(network: Network, written: bytes) -> None:
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4
    try:
        session: Any = onnxruntime.InferenceSession(written, quiet, providers=["CPUExecutionProvider"])
        for count, lengths in _UNSEEN:
            batch = unseen(network, count, lengths)
            with torch.no_grad():
                wanted = network(batch).numpy()
            (found,) = session.run(None, {"lr": batch.numpy()})
            far = np.abs(found - wanted).max() if found.shape == wanted.shape else np.inf
            if not far <= _TOLERANCE * max(1.0, float(np.ptp(wanted))):
                raise ModelError(f"The network {type(network).__name__} gives other voxels as ONNX than it should.")
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"The network {type(network).__name__} cannot be run as ONNX on any size.") from error
