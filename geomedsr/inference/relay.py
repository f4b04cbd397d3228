"""The relay: tiles go to a device, through the network and back, each leg in a lane (stream) of its own.

While one tile is computed the next is on its way there and the last on its way back. A tile's buffers make a slot:
page-locked memory on the host, so that copies run beside the program, and their like on the device. A slot is used
again when its result has been taken, so a job locks no more memory than its stages hold tiles.

Voxels travel as narrow as they are: whole numbers of 16 bits as such, and are made real numbers and the network's
values on the device; what comes back is rounded, saturated and cast there, by the rule of the sinks.

What differs between a GPU and anything else is a `Gear`: a few words on lanes and events.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geomedsr.data.intensity import Intensity
from geomedsr.grid import Factor, Shape
from geomedsr.image import ImageSpec

__all__ = ["PLAIN", "Event", "Fleet", "Gear", "Passage", "Pending", "Relay", "is_narrow", "passage_of"]

_FLOAT32 = np.dtype(np.float32)

_PIECE = 1 << 24
"""How many values are finished at once: 64 MiB in float32."""


@dataclass(frozen=True, slots=True)
class Passage:
    """How a tile travels: the dtypes there and back, and the intensity that is applied and undone on the device."""

    sent: np.dtype[Any] = _FLOAT32
    returned: np.dtype[Any] = _FLOAT32
    intensity: Intensity = field(default_factory=Intensity)


PLAIN = Passage()
"""The network's own values, in float32."""


def passage_of(before: ImageSpec, after: ImageSpec, intensity: Intensity) -> Passage:
    """How an image's valid tiles travel: as whole numbers of at most 16 bits where these are its values."""
    returns = is_narrow(after) and after.nodata is None and not after.has_holes
    sent, returned = (spec.dtype.newbyteorder("=") for spec in (before, after))
    return Passage(sent if is_narrow(before) else _FLOAT32, returned if returns else _FLOAT32, intensity)


def is_narrow(spec: ImageSpec) -> bool:
    """Whether an image's values are whole numbers of at most 16 bits, as they are stored."""
    return spec.dtype.kind in "iu" and spec.dtype.itemsize <= 2 and not spec.scaling


class Event(Protocol):
    """A point in a lane."""

    def synchronize(self) -> None:
        """Waits until it is reached."""
        ...


class Gear(Protocol):
    """A device with three lanes, in each of which things happen in order."""

    device: torch.device

    def lane(self, name: str) -> AbstractContextManager[object]:
        """What is asked for within goes into a lane: there, compute or back."""
        ...

    def locked(self, size: int) -> Tensor:
        """Host memory of so many bytes that copies can run beside."""
        ...

    def mark(self) -> Event:
        """The point that the current lane has come to."""
        ...

    def follow(self, event: Event) -> None:
        """Lets the current lane wait for a point in another."""
        ...

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """What does the work once more, in place, and where its result will lie. The work is not done by it."""
        ...

    def seconds(self, first: Event, last: Event) -> float:
        """The time between two points that have been reached."""
        ...

    def synchronize(self) -> None:
        """Waits until all lanes are done."""
        ...


class _Slot:
    """The buffers of one tile; `here` and `back` are the host's, `there` and `made` the device's."""

    def __init__(self, gear: Gear, sent: tuple[Shape, torch.dtype], returned: tuple[Shape, torch.dtype]) -> None:
        self.here, self.back = _locked(gear, *sent), _locked(gear, *returned)
        with gear.lane("compute"):
            self.there = torch.empty(sent[0], dtype=sent[1], device=gear.device)
            self.made = torch.empty(returned[0], dtype=returned[1], device=gear.device)
            # Their memory may have been another tensor's, which that lane is not done with.
            self.free = gear.mark()


def _locked(gear: Gear, shape: Shape, dtype: torch.dtype) -> Tensor:
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return gear.locked(size).view(dtype).view(shape)


class Pending:
    """A result on its way. As a context it gives the array, which is valid only inside.

    `computed` is how many seconds the network took, once the result is there.
    """

    def __init__(self, voxels: NDArray[Any], ready: Event, span: Callable[[], float], done: Callable[[], None]) -> None:
        self.computed = 0.0
        self._voxels, self._ready, self._span, self._done = voxels, ready, span, done

    def __enter__(self) -> NDArray[Any]:
        self._ready.synchronize()
        self.computed = self._span()
        return self._voxels

    def __exit__(self, *_: object) -> None:
        self._done()


class Relay:
    """A network on a device, fed tile by tile.

    `forward` is the pass of a batch on the device, `order` the memory format that it likes, `factor` how many times
    finer each axis becomes. From the second tile of a
    shape on it is replayed as a recording, where the device and the network allow; `tell` hears where not.
    """

    def __init__(
        self,
        gear: Gear,
        forward: Callable[[Tensor], Tensor],
        order: torch.memory_format,
        factor: Factor,
        *,
        replays: bool = True,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._gear, self._forward, self._order, self._factor = gear, forward, order, factor
        self._replays, self._tell = replays, tell
        self._programme: _Programme | None = None
        self._free: list[_Slot] = []
        self._lock = threading.Lock()

    @torch.inference_mode()
    def start(self, batch: NDArray[Any], passage: Passage = PLAIN) -> Pending:
        """Sends a batch on its way: (B, C, *S) to (B, C, *(S * factor)). It may lie in any order, in any dtype.

        Whoever takes the results must not lag behind by more tiles than there is memory for: each is a slot.
        """
        programme = self._programme_for(batch.shape)
        slot = self._slot(batch.shape, passage)
        slot.here.copy_(_tensor_of(batch))
        with self._gear.lane("there"):
            self._gear.follow(slot.free)
            slot.there.copy_(slot.here, non_blocking=True)
            arrived = self._gear.mark()
        with self._gear.lane("compute"):
            self._gear.follow(arrived)
            began = self._gear.mark()
            _finish(programme.run(slot.there, passage.intensity), slot.made, passage.intensity)
            made = self._gear.mark()
        with self._gear.lane("back"):
            self._gear.follow(made)
            slot.back.copy_(slot.made, non_blocking=True)
            ready = self._gear.mark()
        span = partial(self._gear.seconds, began, made)
        return Pending(slot.back.numpy(), ready, span, partial(self._take_back, slot))

    def settle(self) -> None:
        """Waits for what is on its way. Buffers and the recording stay, for the next image."""
        self._gear.synchronize()

    def let_go(self) -> None:
        """Waits for what is on its way, and gives up all buffers."""
        self.settle()
        with self._lock:
            self._free.clear()
            self._programme = None

    def _programme_for(self, shape: Shape) -> _Programme:
        if self._programme is None or self._programme.shape != shape:
            if self._programme is not None:
                self.let_go()
            with self._gear.lane("compute"):
                self._programme = _Programme(self._gear, self._forward, shape, self._order, self._replays, self._tell)
        return self._programme

    def _slot(self, shape: Shape, passage: Passage) -> _Slot:
        finer = (*shape[:2], *(n * f for n, f in zip(shape[2:], self._factor, strict=True)))
        sent, returned = _torch_dtype(passage.sent), _torch_dtype(passage.returned)
        with self._lock:
            fitting = [s for s in self._free if (s.there.dtype, s.made.dtype) == (sent, returned)]
            if fitting:
                self._free.remove(fitting[0])
                return fitting[0]
        return _Slot(self._gear, (shape, sent), (finer, returned))

    def _take_back(self, slot: _Slot) -> None:
        with self._lock:
            if self._programme is not None and slot.there.shape == self._programme.shape:
                self._free.append(slot)


class Fleet:
    """Several devices that share one job: tiles are dealt to them in turn, and come back in order."""

    def __init__(self, relays: Sequence[Relay]) -> None:
        self._relays, self._turn = relays, cycle(relays)

    @property
    def size(self) -> int:
        """How many devices there are."""
        return len(self._relays)

    def start(self, batch: NDArray[Any], passage: Passage = PLAIN) -> Pending:
        """Sends a batch to the next device."""
        return next(self._turn).start(batch, passage)

    def settle(self) -> None:
        """Waits for what is on its way."""
        for relay in self._relays:
            relay.settle()

    def let_go(self) -> None:
        """Waits for what is on its way, and gives up all buffers."""
        for relay in self._relays:
            relay.let_go()


class _Programme:
    """The forward pass of one shape: run as it is at first, which also warms it up, then recorded and replayed."""

    def __init__(
        self,
        gear: Gear,
        forward: Callable[[Tensor], Tensor],
        shape: Shape,
        order: torch.memory_format,
        replays: bool,
        tell: Callable[[str], None] | None,
    ) -> None:
        self.shape = shape
        self._gear, self._forward, self._tell = gear, forward, tell
        self._x = torch.empty(shape, device=gear.device).contiguous(memory_format=order)
        self._runs, self._replays = 0, replays
        self._replay: Callable[[], None] | None = None
        self._y: Tensor | None = None

    def run(self, raw: Tensor, intensity: Intensity) -> Tensor:
        """The network's output, valid until the next run."""
        self._x.copy_(raw)
        if intensity != Intensity():
            # In two steps, as the host does it, for the same bits.
            self._x.sub_(intensity.offset).mul_(1.0 / intensity.scale)
        if self._runs == 1 and self._replays:
            self._record()
        self._runs += 1
        if self._replay is None or self._y is None:
            return self._forward(self._x)
        self._replay()
        return self._y

    def _record(self) -> None:
        try:
            self._replay, self._y = self._gear.record(lambda: self._forward(self._x))
        except Exception as error:  # noqa: BLE001  (whatever it is: it runs without, too)
            self._gear.synchronize()
            if self._tell:
                self._tell(f"Runs each tile anew, as the network could not be recorded: {error}")


def _finish(y: Tensor, made: Tensor, intensity: Intensity) -> None:
    """The network's values as physical ones in the dtype of `made`, by the sinks' rule: half to even, saturated.

    In pieces, so that what lies between the steps takes little of the device's memory.
    """
    count = max(1, y.numel() // _PIECE)
    for piece, place in zip(y.chunk(count, 2), made.chunk(count, 2), strict=True):
        _finish_piece(piece, place, intensity)


def _finish_piece(y: Tensor, made: Tensor, intensity: Intensity) -> None:
    if intensity != Intensity():
        y = (y * intensity.scale).add_(intensity.offset)
    if not made.dtype.is_floating_point:
        ends = torch.iinfo(made.dtype)
        y = y.round().nan_to_num_(0.0, ends.max, ends.min).clamp_(ends.min, ends.max)
    made.copy_(y)


def _tensor_of(numbers: NDArray[Any]) -> Tensor:
    native = numbers.astype(numbers.dtype.newbyteorder("="), copy=False)
    # torch warns of arrays that must not be written to, though nothing here would.
    return torch.from_numpy(native if native.flags.writeable else native.copy())


def _torch_dtype(dtype: np.dtype[Any]) -> torch.dtype:
    found: torch.dtype = torch.from_numpy(np.empty(0, dtype)).dtype
    return found
