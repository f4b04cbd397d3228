from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomedsr.inference.tasks import Blocks, block_step

AXIS = st.tuples(st.integers(1, 40), st.integers(1, 20), st.integers(1, 50))


@given(st.lists(AXIS, min_size=2, max_size=3))
def test_blocks_cover_the_output_once_and_share_no_object(axes: list[tuple[int, int, int]]) -> None:
    shape, side, kept = (tuple(values) for values in zip(*axes, strict=True))
    blocks = Blocks(shape, block_step(kept, side, shape))
    owner = np.full(shape, -1)
    for index, box in enumerate(blocks):
        assert (owner[box.slices] == -1).all()
        owner[box.slices] = index
    assert (owner >= 0).all()
    for corner in np.ndindex(*(-(-n // s) for n, s in zip(shape, side, strict=True))):
        inside = tuple(slice(i * s, (i + 1) * s) for i, s in zip(corner, side, strict=True))
        assert np.unique(owner[inside]).size == 1


def test_a_block_is_found_by_its_index() -> None:
    blocks = Blocks((10**7, 10**7), (1000, 1000))
    assert len(blocks) == 10**8
    assert blocks[10**8 - 1].stop == (10**7, 10**7)
    assert blocks[-1] == blocks[10**8 - 1]
    assert list(blocks[1:3]) == [blocks[1], blocks[2]]
    with pytest.raises(IndexError, match="none at 100000000"):
        blocks[10**8]
