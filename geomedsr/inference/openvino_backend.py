"""OpenVINO as a backend: a network is converted once, kept, and compiled for the window of a job.

The converted network has open lengths; compiled for one window it runs faster. Nothing is told to anybody: OpenVINO's
own command for converting reports its use over the network, its front end, which is called here, does not.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import os
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geomedsr.errors import GeomedsrError, ModelError
from geomedsr.grid import Shape
from geomedsr.image import Voxels
from geomedsr.inference.backend import PRECISIONS
from geomedsr.inference.footprint import Footprint, footprint
from geomedsr.inference.kernels import OneKernel
from geomedsr.inference.memory import available
from geomedsr.inference.tail import join_tail
from geomedsr.networks._network import Network

__all__ = ["OpenvinoBackend", "is_installed", "unseen"]

_HINTS = {"float32": "f32", "bf16": "bf16"}

_TOLERANCE = 1e-4
"""How far the converted network may be from torch's, of the range of what it gives: orders of the same sums."""

_FORMAT = "1"
"""Changes with what a kept network is made of."""


def is_installed() -> bool:
    """Whether OpenVINO is there (the extra `openvino`)."""
    return importlib.util.find_spec("openvino") is not None


class OpenvinoBackend:
    """OpenVINO on the CPU; converted networks are kept in `folder` (default: the user's cache).

    Raises:
        GeomedsrError: OpenVINO is not installed, or knows no such precision.
        ModelError: the network cannot be converted.
    """

    name = "openvino"
    device = "cpu"
    relay = None

    def __init__(self, network: Network, precision: str = "float32", folder: str | Path | None = None) -> None:
        if precision not in PRECISIONS:
            raise GeomedsrError(f"The precision '{precision}' is not known; known are {', '.join(PRECISIONS)}.")
        if not is_installed():
            raise GeomedsrError("OpenVINO is not installed here; install geomedsr[openvino], or use --backend torch.")
        import openvino

        self.precision = precision
        task = network.task
        self._factor = task.factor
        joined = join_tail(copy.deepcopy(network).cpu().eval().requires_grad_(False))
        self._footprint = footprint(joined, task.channels, task.ndim, network.multiple_of)
        self._core = openvino.Core()
        self._path = _converted(self._core, joined, Path(folder) if folder else _kept())
        self._requests: dict[Shape, Any] = {}

    @property
    def footprint(self) -> Footprint:
        """What a forward pass takes, as in torch: OpenVINO lets the same activations share memory."""
        return self._footprint

    def available(self) -> int:
        """Bytes at hand."""
        return available()

    def run(self, batch: Voxels) -> Voxels:
        """The finer batch."""
        from openvino import Tensor as Shared

        if batch.shape not in self._requests:
            self._requests = {}  # to be freed before the next is made
            self._requests[batch.shape] = _compiled(self._core, self._path, batch.shape, self.precision)
        request = self._requests[batch.shape]
        finer = (n * f for n, f in zip(batch.shape[2:], self._factor, strict=True))
        result = np.empty((*batch.shape[:2], *finer), np.float32)
        request.set_input_tensor(Shared(np.ascontiguousarray(batch), shared_memory=True))
        request.set_output_tensor(Shared(result, shared_memory=True))
        request.infer()
        return result


def _compiled(core: Any, path: Path, shape: Shape, precision: str) -> Any:  # noqa: ANN401 - OpenVINO's own types
    """What runs a converted network on batches of one shape."""
    hints = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    try:
        model = core.read_model(path)
        model.reshape(list(shape))
        return core.compile_model(model, "CPU", hints).create_infer_request()
    except RuntimeError as error:
        where = " x ".join(map(str, shape))
        raise ModelError(f"OpenVINO cannot run the network on {where} voxels; use --backend torch.") from error


def _converted(core: Any, network: Network, kept: Path) -> Path:  # noqa: ANN401
    """The file of the converted network; made where there is none of these weights and these versions yet."""
    folder = kept / _key(network)
    path = folder / "network.xml"
    if path.is_file():
        return path
    try:
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept, prefix=".new-") as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            _convert(network, made / path.name)
            _check(core, network, made / path.name)
            os.rename(made, folder)
    except OSError as error:
        if not path.is_file():  # else another process was first
            where = "let XDG_CACHE_HOME name another folder"
            raise GeomedsrError(f"{kept} cannot keep a converted network ({error.strerror}); {where}.") from error
    return path


def _kept() -> Path:
    """The folder where converted networks are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "geomedsr" / "openvino"


def _key(network: Network) -> str:
    """A name that only the same network, converted by the same versions, has."""
    digest = hashlib.sha256()
    for text in (_FORMAT, version("openvino"), torch.__version__, repr(network), repr(network.task)):
        digest.update(text.encode())
    digest.update(repr(sorted(network.settings.items())).encode())
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def _convert(network: Network, path: Path) -> None:
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = unseen(network, 1, (16, 20, 24))
    try:
        with warnings.catch_warnings(), torch.no_grad(), OneKernel(doubles=False):
            warnings.simplefilter("ignore")  # of values that are recorded as constants: the result is checked
            recorded = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
        front_end = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(recorded, example_input=example)  # must outlive the conversion
        model = front_end.convert(front_end.load(decoder))
        model.reshape([-1, network.task.channels, *[-1] * network.task.ndim])
        openvino.save_model(model, path, compress_to_fp16=False)
    except Exception as error:
        raise ModelError(
            f"OpenVINO cannot convert the network {type(network).__name__}; use --backend torch."
        ) from error


def _check(core: Any, network: Network, path: Path) -> None:  # noqa: ANN401
    """Compares the converted network with torch on a shape that it was not recorded with."""
    batch = unseen(network, 2, (28, 18, 12))
    with torch.no_grad():
        wanted = network(batch).numpy()
    found = _compiled(core, path, tuple(batch.shape), "float32").infer([batch.numpy()])[0]
    if not np.abs(found - wanted).max() <= _TOLERANCE * max(1.0, float(np.ptp(wanted))):
        raise ModelError(f"OpenVINO gives other voxels for {type(network).__name__}; use --backend torch.")


def unseen(network: Network, count: int, lengths: Shape) -> Tensor:
    """Noise in the shape of a batch of a network, its lengths rounded up to what the network strides by."""
    multiple, ndim = network.multiple_of, network.task.ndim
    shape = (count, network.task.channels, *(-(-n // multiple) * multiple for n in lengths[:ndim]))
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))
