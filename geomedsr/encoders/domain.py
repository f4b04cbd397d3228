"""The encoder of a domain: small, trained on its fine images without labels, and shipped for MRI and Sentinel-2.

A folder holds one: `encoder.json` (axes, channels, widths, what it was trained on), `encoder.safetensors` and the card.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from geomedsr.encoders import _weights
from geomedsr.encoders._features import Features, conv
from geomedsr.errors import ModelError

__all__ = ["DomainEncoder", "load", "names", "seeded", "write"]

SHIPPED = Path(__file__).parent
FORMAT = 1
WIDTHS = (32, 64, 96)


class DomainEncoder(Features):
    """Stages at 1, 1/2, 1/4 ... of the resolution, each a residual block of two 3-wide convolutions.

    The features it gives have mean 0 and spread 1 over the images that it was standardised on: without that, what all
    images share would drown what differs.

    Shape: (B, channels, *S) to a layer (B, widths[i], *(S // 2 ** i)) for each stage, named "1", "2", ...
    Reference: He et al. 2016, arXiv:1603.05027 (the block, here without normalisation); Zhang 2019, arXiv:1904.11486
        (averaging before the step down, so that features do not jump when the image moves)
    """

    def __init__(self, ndim: int, channels: int, widths: Sequence[int] = WIDTHS, name: str = "the encoder") -> None:
        super().__init__()
        if ndim not in (2, 3) or channels < 1 or not widths or min(widths) < 1:
            raise ModelError(f"An encoder has 2 or 3 axes, channels and widths; not {ndim}, {channels}, {widths}.")
        self.name, self.ndim, self.channels, self.widths = name, ndim, channels, tuple(widths)
        self.layers = tuple(str(i + 1) for i in range(len(widths)))
        self.smallest = 2 ** (len(widths) - 1)
        inputs = [channels, *widths[:-1]]
        self.entries = nn.ModuleList([conv(ndim, n, width) for n, width in zip(inputs, widths, strict=True)])
        self.blocks = nn.ModuleList([_Block(ndim, width) for width in widths])
        for layer, width in zip(self.layers, widths, strict=True):
            self.register_buffer(f"centre{layer}", torch.zeros(width))
            self.register_buffer(f"spread{layer}", torch.ones(width))

    def forward(self, x: Tensor, layers: Sequence[str] = ()) -> dict[str, Tensor]:
        """The features of `layers`, by name."""
        pool = functional.avg_pool2d if self.ndim == 2 else functional.avg_pool3d
        found: dict[str, Tensor] = {}
        for name, entry, block in zip(self.layers, self.entries, self.blocks, strict=True):
            x = block(entry(pool(x, 2) if found else x))
            found[name] = x
        return {name: self._standard(name, found[name]) for name in layers or self.layers}

    @torch.no_grad()
    def standardise(self, images: Tensor) -> None:
        """Makes the features of these images have mean 0 and spread 1, feature by feature."""
        for layer in self.layers:
            self.get_buffer(f"centre{layer}").zero_()
            self.get_buffer(f"spread{layer}").fill_(1.0)
        for layer, features in self(images).items():
            values = features.transpose(0, 1).flatten(1)
            self.get_buffer(f"centre{layer}").copy_(values.mean(1))
            self.get_buffer(f"spread{layer}").copy_(values.std(1).clamp(min=1e-6))

    def _standard(self, layer: str, features: Tensor) -> Tensor:
        shape = (-1, *[1] * self.ndim)
        centre, spread = self.get_buffer(f"centre{layer}"), self.get_buffer(f"spread{layer}")
        return (features - centre.view(shape)) / spread.view(shape)


class _Block(nn.Module):
    def __init__(self, ndim: int, width: int) -> None:
        super().__init__()
        self.first, self.second = conv(ndim, width, width), conv(ndim, width, width)

    def forward(self, x: Tensor) -> Tensor:
        correction: Tensor = self.second(functional.silu(self.first(functional.silu(x))))
        return x + correction


def names() -> list[str]:
    """The encoders that ship with the package."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/encoder.json"))


def load(name: str) -> DomainEncoder:
    """A shipped encoder by its name, or the one in a folder, frozen.

    Raises:
        ModelError: there is none, or it is broken.
    """
    folder = SHIPPED / name if name in names() else Path(name)
    if not (folder / "encoder.json").is_file():
        raise ModelError(f"{name} is no encoder's folder, and none of the shipped ones ({', '.join(names())}).")
    config = _config(folder / "encoder.json")
    path = folder / "encoder.safetensors"
    encoder = DomainEncoder(config["ndim"], config["channels"], config["widths"], f"The encoder {name}")
    weights = _weights.read(path)
    if hashlib.sha256(path.read_bytes()).hexdigest() != config["sha256"]:
        raise ModelError(f"{path} is not the file that encoder.json was written for: its SHA-256 differs.")
    _weights.fill(encoder, weights, path)
    return encoder


def write(encoder: DomainEncoder, folder: Path, about: Mapping[str, Any], card: str) -> None:
    """Writes an encoder's folder; `about` are further JSON values (data, licence, training) for `encoder.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()})
    config = {
        "geomedsr_encoder": FORMAT,
        "ndim": encoder.ndim,
        "channels": encoder.channels,
        "widths": list(encoder.widths),
        "sha256": hashlib.sha256(weights).hexdigest(),
        **about,
    }
    (folder / "encoder.safetensors").write_bytes(weights)
    (folder / "encoder.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(card, encoding="utf-8")


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if config["geomedsr_encoder"] != FORMAT:
            raise ValueError(f"its format is {config['geomedsr_encoder']}, not {FORMAT}")
        kinds = {"ndim": int, "channels": int, "widths": list, "sha256": str}
        wrong = next((key for key, kind in kinds.items() if not isinstance(config[key], kind)), None)
        if wrong or not all(isinstance(width, int) and 0 < width <= 4096 for width in config["widths"]):
            raise ValueError(f"{wrong or 'widths'} is not understood")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{path} is not understood: {error}.") from error
    return dict(config)


def seeded(ndim: int, channels: int, widths: Sequence[int], seed: int) -> DomainEncoder:
    """An encoder with its first weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DomainEncoder(ndim, channels, widths)
