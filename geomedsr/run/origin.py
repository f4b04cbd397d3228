"""What made an output, by what the output says and by what is known of that model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geomedsr.errors import ModelError
from geomedsr.image import Source
from geomedsr.run.catalogue import Summary, find_model, summary
from geomedsr.run.channels import MADE_UP
from geomedsr.run.fit import BASELINES
from geomedsr.run.provenance import fingerprint, read_provenance

if TYPE_CHECKING:
    from geomedsr.report.story import Maker

__all__ = ["Origin", "origin_of"]


@dataclass(frozen=True)
class Origin:
    """The name of the model, what is known of it, and what the output itself says (empty where it says nothing)."""

    name: str = ""
    known: Summary | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the input's channels that went into the output, by what it says."""
        told = self.provenance.get("parameters", {}).get("channels")
        return tuple(str(name) for name in told) if isinstance(told, list) else ()

    def names_for(self, channels: tuple[str, ...]) -> tuple[str, ...] | None:
        """What the model calls these channels, where their file gave them no names of their own."""
        if self.known is None or len(self.known.channels) != len(channels):
            return None
        return self.known.channels if all(MADE_UP.fullmatch(name.lower()) for name in channels) else None

    def maker(self) -> Maker:
        """What a page says of the model."""
        from geomedsr.report.story import Maker

        told = self.provenance.get("model", {})
        sha256 = str(told.get("sha256") or "")
        if self.known is None:
            return Maker(self.name, sha256=sha256)
        known = self.known
        return Maker(known.name, known.about, sha256, known.licence, is_baseline=known.name in BASELINES)

    def is_from(self, path: Path) -> bool | None:
        """Whether the output says that it was made from this very file; None where it does not say."""
        told = self.provenance.get("input", {}).get("sha256")
        return None if not told else fingerprint(path).get("sha256") == told


def origin_of(after: Source, model: str | None) -> Origin:
    """The origin of an output; `model` is what made it by the user's own word, which counts more.

    Raises:
        ModelError: there is no such model as the user says.
    """
    told = read_provenance(after.spec.provenance) or {}
    if model is not None:
        return Origin(summary(model).name, summary(model), told)
    name = str(told.get("model", {}).get("name") or "")
    return Origin(name, _known(name), told)


def _known(name: str) -> Summary | None:
    """What is known of a model that an output names: one of the package or a baseline, not what lies in some folder."""
    if name in BASELINES:
        return summary(name)
    try:
        return summary(name) if find_model(name).name == name and not Path(name).exists() else None
    except ModelError:
        return None
