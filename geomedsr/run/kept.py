"""What a process keeps ready from one piece of a job to the next: the plan of an image, the image, the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geomedsr.image import Source
from geomedsr.run.planning import Plan, Settings, plan, upscaler_for
from geomedsr.run.targets import Job
from geomedsr.run.upscaling import open_planned

if TYPE_CHECKING:
    from geomedsr.inference.upscaler import Upscaler
    from geomedsr.model import Model

__all__ = ["ready_plan", "ready_source", "ready_upscaler"]

_plan: tuple[tuple[str, int], Plan] | None = None
_source: tuple[Plan, Source] | None = None
_upscaler: tuple[Model, Any, Settings, Upscaler] | None = None


def ready_plan(key: tuple[str, int], job: Job, settings: Settings) -> Plan:
    """The plan of an image, which is told from others by `key`: a worker gets it in many batches."""
    global _plan
    if _plan is None or _plan[0] != key:
        _plan = (key, plan(job, settings))
    return _plan[1]


def ready_source(made: Plan) -> Source:
    """The image of a plan: to open it may mean to look at the names of all its objects."""
    global _source
    if _source is None or _source[0] is not made:
        _source = (made, open_planned(made))
    return _source[1]


def ready_upscaler(made: Plan, settings: Settings) -> Upscaler:
    """What streams the image through the model, which is made ready once."""
    global _upscaler
    if _upscaler is None or _upscaler[0] is not made.model or _upscaler[1:3] != (made.fit.axes, settings):
        _upscaler = (made.model, made.fit.axes, settings, upscaler_for(made.model, made.fit, settings))
    return _upscaler[3]
