"""Weights from local files: safetensors alone, checked before they are used. Nothing is fetched, no pickle is read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from geomedsr.errors import ModelError

__all__ = ["fill", "read"]

_PICKLES = (".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".bin", ".tar")
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def read(path: Path, without: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """The tensors of a safetensors file, without the `module.` that parallel training puts before their names.

    Those whose names begin with one of `without` are not read.

    Raises:
        ModelError: there is no such file, it is a pickle, or it is broken.
    """
    try:
        with open(path, "rb") as handle:
            start = handle.read(4)
    except OSError as error:
        raise ModelError(f"The weights {path} cannot be read: {error.strerror or error}.") from error
    if path.suffix.lower() in _PICKLES or start.startswith(_PICKLE_STARTS):
        raise ModelError(
            f"{path} is a pickle, which can run code when it is read, and is not read here. Convert it where you trust "
            "it: torch.load(path, weights_only=True), then safetensors.torch.save_file(its state dict, path)."
        )
    try:
        with safe_open(path, "pt") as opened:
            names = {name.removeprefix("module."): name for name in opened.keys()}  # noqa: SIM118 - it is no dict
            return {name: opened.get_tensor(full) for name, full in names.items() if not name.startswith(without)}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is no safetensors file: {error}.") from error


def fill(module: nn.Module, weights: dict[str, Tensor], path: Path, spare: Iterable[str] = ()) -> None:
    """Puts the weights into a module and freezes it; names that begin with one of `spare` may be left over.

    Raises:
        ModelError: a name, a shape or a number is not as it must be; the message names the first.
    """
    asked = module.state_dict()
    for name, tensor in asked.items():
        if name.endswith(".num_batches_tracked"):
            weights.setdefault(name, tensor)  # a count that older files lack, and nothing here looks at
        if name not in weights:
            raise ModelError(f"{path} does not hold these weights: it lacks {name}.")
        if weights[name].shape != tensor.shape:
            found, wanted = tuple(weights[name].shape), tuple(tensor.shape)
            raise ModelError(f"{path} does not hold these weights: {name} is {found}, not {wanted}.")
        if not bool(weights[name].isfinite().all()):
            raise ModelError(f"{path} has weights that are not finite, in {name}; it is of no use.")
    unknown = sorted(name for name in weights.keys() - asked.keys() if not name.startswith(tuple(spare)))
    if unknown:
        raise ModelError(f"{path} does not hold these weights: it has an unknown {unknown[0]}.")
    module.load_state_dict({name: weights[name] for name in asked})
    module.eval().requires_grad_(False)
