"""The folder is the registry: a plugin is a module in `geomedsr/<kind>/` whose name has no leading underscore."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from geomedsr.errors import GeomedsrError

__all__ = ["load", "names"]


def names(kind: str) -> list[str]:
    """The plugins of a folder, sorted.

    Example:
        >>> "nifti" in names("io")
        True
    """
    package = importlib.import_module(f"geomedsr.{kind}")
    found = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return sorted(name for name in found if not name.startswith("_"))


def load(kind: str, name: str) -> ModuleType:
    """The plugin module `geomedsr.<kind>.<name>`.

    Raises:
        GeomedsrError: there is no such plugin; the message lists those that are.
    """
    known = names(kind)
    if name not in known:
        raise GeomedsrError(f"There is no '{name}' in {kind}; there are {', '.join(known)}.")
    return importlib.import_module(f"geomedsr.{kind}.{name}")
