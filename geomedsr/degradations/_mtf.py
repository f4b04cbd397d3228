"""Modulation transfer functions of sensors at their own Nyquist frequency, as published, by band."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["published"]

_PUBLISHED: dict[str, dict[str, float]] = {
    # Lanaras, Bioucas-Dias, Baltsavias and Schindler 2017, "Super-resolution of multispectral multiresolution images
    # from a single sensor", CVPR Workshops: the figures of its authors' program (github.com/lanha/SupReME).
    "sentinel2": {
        "B1": 0.32,
        "B2": 0.26,
        "B3": 0.28,
        "B4": 0.24,
        "B5": 0.38,
        "B6": 0.34,
        "B7": 0.34,
        "B8": 0.26,
        "B8A": 0.33,
        "B9": 0.26,
        "B11": 0.22,
        "B12": 0.23,
    },
    # CNES and CESBIO, sensorsio (github.com/CNES/sensorsio, sentinel2.py).
    "sentinel2_cnes": {
        "B2": 0.304,
        "B3": 0.276,
        "B4": 0.233,
        "B5": 0.343,
        "B6": 0.336,
        "B7": 0.338,
        "B8": 0.222,
        "B8A": 0.325,
        "B9": 0.39,
        "B11": 0.21,
        "B12": 0.19,
    },
}


def published(sensor: str, bands: Sequence[str | int] | None) -> list[float]:
    """The published value of each band, in the order given; `B02`, `b2` and 2 name the same band.

    Raises:
        ValueError: nothing is known of the sensor or of a band, or no bands are named.

    Example:
        >>> published("sentinel2", ["B02", "B8A"])
        [0.26, 0.33]
    """
    if sensor not in _PUBLISHED:
        raise ValueError(f"mtf: nothing is known of '{sensor}', but of {', '.join(_PUBLISHED)}")
    known = _PUBLISHED[sensor]
    if not bands or isinstance(bands, str):
        raise ValueError(f"mtf {sensor} needs bands, a list in the order of the channels, such as [B2, B3]")
    names = ["B" + str(band).upper().removeprefix("B").lstrip("0") for band in bands]
    unknown = [str(band) for band, name in zip(bands, names, strict=True) if name not in known]
    if unknown:
        raise ValueError(f"mtf {sensor} has no value for {', '.join(unknown)}, but for {', '.join(known)}")
    return [known[name] for name in names]
