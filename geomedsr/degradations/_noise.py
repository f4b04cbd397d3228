"""Noise of instruments, in the units of the network's intensities.

In a recipe `noise` is a level (or [low, high]) of the degradation's own kind of noise, or names another:
`{name: speckle, looks: 4.4}`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geomedsr.degradations._range import Range, Setting, spread

__all__ = ["Noise", "NoiseSetting", "gaussian", "poisson_gaussian", "rician", "speckle"]

NoiseSetting = Setting | Mapping[str, Any]
"""In a recipe: a level, or a name with the settings of that kind."""

_SMALLEST_GAIN = 1e-9

_ROUNDS = 12
"""At most one draw in twenty is rejected: after so many rounds not one voxel in 10 ** 15 is left, with its mean."""


def _normal(x: Tensor, rng: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=rng, device=rng.device, dtype=torch.float32).to(x)


def _is_zero(value: float | Tensor) -> bool:
    return not isinstance(value, Tensor) and value == 0


def gaussian(x: Tensor, sigma: float | Tensor, rng: torch.Generator) -> Tensor:
    """Additive noise of standard deviation `sigma`."""
    return x if _is_zero(sigma) else x + sigma * _normal(x, rng)


def rician(x: Tensor, sigma: float | Tensor, rng: torch.Generator) -> Tensor:
    """The magnitude of a complex image with noise of standard deviation `sigma` in each part.

    Reference: Gudbjartsson and Patz 1995, DOI 10.1002/mrm.1910340618
    """
    return x if _is_zero(sigma) else torch.hypot(x + sigma * _normal(x, rng), sigma * _normal(x, rng))


def poisson_gaussian(x: Tensor, gain: float | Tensor, sigma: float | Tensor, rng: torch.Generator) -> Tensor:
    """Photon counts and read-out: variance `gain` x + `sigma`^2.

    `gain` is the intensity that one photon adds. Where the intensity is negative there are no photons to count.

    Reference: Foi et al. 2008, DOI 10.1109/TIP.2008.2001399
    """
    if not _is_zero(gain):
        step = gain.clamp(min=_SMALLEST_GAIN) if isinstance(gain, Tensor) else max(gain, _SMALLEST_GAIN)
        bright = x.clamp(min=0)
        counts = torch.poisson((bright / step).to(rng.device), generator=rng).to(x)
        x = x - bright + step * counts
    return gaussian(x, sigma, rng)


def speckle(x: Tensor, looks: float | Tensor, rng: torch.Generator) -> Tensor:
    """An intensity image of a radar: multiplied by gamma noise of mean 1 and variance 1 / `looks`.

    Reference: Goodman 1976, DOI 10.1364/JOSA.66.001145
    """
    return x * _gamma(looks, x, rng) / looks


def _gamma(shape: float | Tensor, x: Tensor, rng: torch.Generator) -> Tensor:
    """Gamma variates of `shape` (1 or more) and scale 1, one for each voxel of x.

    Reference: Marsaglia and Tsang 2000, DOI 10.1145/358407.358414
    """
    d = shape - 1 / 3
    found, left = d + torch.zeros_like(x), torch.ones_like(x, dtype=torch.bool)
    for _ in range(_ROUNDS):
        if left.device.type == "cpu" and not bool(left.any()):
            break  # elsewhere looking would wait for all that the device has to do
        z = _normal(x, rng)
        v = (1 + z / (3 * d**0.5)) ** 3
        chance = torch.rand(x.shape, generator=rng, device=rng.device).to(x)
        bound = 0.5 * z**2 + d * (1 - v + v.clamp(min=1e-30).log())
        kept = left & (v > 0) & (chance.log() < bound)
        found = torch.where(kept, d * v, found)
        left &= ~kept
    return found


_MODELS: dict[str, tuple[Callable[..., Tensor], dict[str, float]]] = {
    "gaussian": (gaussian, {"sigma": 0}),
    "rician": (rician, {"sigma": 0}),
    "poisson_gaussian": (poisson_gaussian, {"gain": 0, "sigma": 0}),
    "speckle": (speckle, {"looks": 1}),
}
"""Each kind with its settings, in the order of the function, and the least that each may be."""


@dataclass(frozen=True)
class Noise:
    """One kind of noise and its settings; called with a batch, it gives the noisy one."""

    name: str
    ranges: tuple[Range, ...]

    @classmethod
    def of(cls, setting: NoiseSetting, kind: str) -> Noise:
        """The noise of a recipe's setting; a bare level is of `kind`.

        Raises:
            ValueError: there is no such noise, or it takes other settings.

        Example:
            >>> Noise.of({"name": "speckle", "looks": 4.4}, "gaussian")
            Noise(name='speckle', ranges=(Range(low=4.4, high=4.4),))
        """
        if not isinstance(setting, Mapping):
            return cls(kind, (Range.of("noise", setting, least=0),))
        name, given = setting.get("name"), {key: value for key, value in setting.items() if key != "name"}
        if name not in _MODELS:
            raise ValueError(f"noise: there is no '{name}'; there are {', '.join(sorted(_MODELS))}")
        least = _MODELS[name][1]
        if set(given) != set(least):
            raise ValueError(f"noise {name} takes {' and '.join(least)}; got {', '.join(map(str, given)) or 'neither'}")
        return cls(name, tuple(Range.of(f"noise {key}", given[key], low, math.inf) for key, low in least.items()))

    def __call__(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """The batch with noise; where a setting is a range, each image draws its own value."""
        return _MODELS[self.name][0](x, *(spread(one.draw(x.shape[0], rng), x) for one in self.ranges), rng)
