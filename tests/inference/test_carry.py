from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from geomedsr.grid import Box, Factor, Shape
from geomedsr.image import Image, Voxels
from geomedsr.inference.backend import TorchBackend
from geomedsr.inference.carry import Carry, Pace
from geomedsr.inference.layout import layout_of
from geomedsr.inference.rolling import Rolling
from geomedsr.inference.upscaler import Upscaler
from geomedsr.inference.windows import Work
from geomedsr.networks import edsr
from geomedsr.networks._network import Network
from geomedsr.task import Task


def network_of(factor: Factor, channels: int = 1) -> Network:
    network = edsr.build(Task(len(factor), channels, factor), width=12, blocks=1)
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1)
    return network


def speckle(shape: Shape) -> Voxels:
    return np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)


class Fed(TorchBackend):
    """Counts the rows that it is fed, and fails at one of the feeds where that is asked for."""

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.rows: list[int] = []
        self.fails_at = -1

    def feed(self, rolling: Rolling, rows: Voxels, ended: bool) -> Voxels | None:
        self.rows.append(rows.shape[2])
        if len(self.rows) == self.fails_at:
            raise MemoryError
        return super().feed(rolling, rows, ended)


def carried(work: Work, window: Shape, voxels: Voxels, skipped: frozenset[int] = frozenset()) -> tuple[Voxels, Fed]:
    """The tiles of a window, as the stream runs them; those skipped stay zero."""
    network = network_of(work.factor)
    backend, layout = Fed(network), layout_of(network.task, Image.of(voxels).spec)
    pace, found = Pace(backend, layout), np.zeros((1, *Box.whole(work.shape).scaled(work.factor).shape), np.float32)
    carry, axis = Carry(pace, work, window), pace.axis(work, window)
    assert axis is not None
    for number, tile in enumerate(work.plan(window).along(axis)):
        if number not in skipped:
            batch = carry.run(tile, layout.to_batch(voxels[(slice(None), *tile.read.slices)]))
            found[(slice(None), *tile.write.slices)] = batch[0][(slice(None), *tile.keep.slices)]
    return found, backend


@pytest.mark.parametrize(
    ("shape", "factor", "window", "chunks"),
    [
        ((90, 30), (2, 2), (40, 30), None),
        ((90, 30), (2, 2), (41, 24), (32, 32)),
        ((30, 90), (3, 2), (30, 33), (50, 50)),
        ((70, 20, 18), (2, 1, 2), (30, 20, 18), None),
        ((20, 70, 18), (2, 2, 2), (20, 40, 18), (7, 9, 5)),
    ],
)
def test_tiles_that_go_on_give_the_bits_of_the_whole_image(
    shape: Shape, factor: Factor, window: Shape, chunks: Shape | None
) -> None:
    voxels, network = speckle((1, *shape)), network_of(factor)
    work = Work(shape, factor, network.reach or (), chunks, (1,) * len(shape))
    found, _ = carried(work, window, voxels)
    whole = TorchBackend(network).run(voxels[None])[0]
    np.testing.assert_array_equal(found, whole)


def test_no_row_is_fed_twice_where_one_axis_is_split() -> None:
    work = Work((200, 40), (2, 2), (6, 6), (32, 32), (1, 1))
    _, backend = carried(work, (50, 40), speckle((1, 200, 40)))
    assert sum(backend.rows) == 200


def test_a_tile_that_follows_none_is_run_with_its_halo() -> None:
    voxels = speckle((1, 200, 40))
    work = Work((200, 40), (2, 2), (6, 6), None, (1, 1))
    whole, _ = carried(work, (50, 40), voxels)
    found, backend = carried(work, (50, 40), voxels, skipped=frozenset({1}))
    first, second = work.plan((50, 40))[0].write.stop[0], work.plan((50, 40))[1].write.stop[0]
    np.testing.assert_array_equal(found[:, :first], whole[:, :first])
    np.testing.assert_array_equal(found[:, second:], whole[:, second:])
    assert sum(backend.rows) == 50 + 200 - work.plan((50, 40))[2].read.start[0]


def test_what_went_wrong_leaves_nothing_to_go_on_from() -> None:
    voxels, network = speckle((1, 120, 40)), network_of((2, 2))
    work = Work((120, 40), (2, 2), (6, 6), None, (1, 1))
    backend, layout = Fed(network), layout_of(network.task, Image.of(voxels).spec)
    carry, tiles = Carry(Pace(backend, layout), work, (50, 40)), work.plan((50, 40))
    batches = [layout.to_batch(voxels[(slice(None), *tile.read.slices)]) for tile in tiles]
    carry.run(tiles[0], batches[0])
    backend.fails_at = len(backend.rows) + 1
    with pytest.raises(MemoryError):
        carry.run(tiles[1], batches[1])
    again, kept = carry.run(tiles[1], batches[1]), tiles[1].keep.slices
    np.testing.assert_array_equal(again[0, :, *kept], backend.run(batches[1])[0, :, *kept])


def test_a_long_image_takes_no_more_than_a_short_one() -> None:
    upscaler = Upscaler(network_of((2, 2)), None, memory=20 << 20)
    short, long = Image.of(speckle((1, 400, 300))), Image.of(speckle((1, 4000, 300)))
    windows = []
    for source in (short, long):
        sink = Image.empty(source.spec.upscaled((2, 2)))
        session = upscaler.session(source, sink)
        windows.append(session.window)
    assert windows[0][1] == windows[1][1] == 300
    assert windows[1][0] < 400


def test_slices_of_a_volume_go_as_a_whole() -> None:
    network = network_of((2, 2))
    layout = layout_of(network.task, Image.of(speckle((1, 30, 30, 20))).spec)
    assert Pace(TorchBackend(network), layout).axes == ()
    assert Pace(TorchBackend(network), layout_of(network.task, Image.of(speckle((1, 30, 30))).spec)).axes == (0, 1)
