from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geomedsr.inference.tasks import Blocks

AXIS = st.tuples(st.integers(1, 40), st.integers(1, 50))


@settings(deadline=None, max_examples=30)
@given(st.lists(AXIS, min_size=2, max_size=3))
def test_blocks_cover_the_output_once(axes: list[tuple[int, int]]) -> None:
    shape, step = (tuple(values) for values in zip(*axes, strict=True))
    seen = np.zeros(shape, np.int8)
    for box in Blocks(shape, step):
        seen[box.slices] += 1
    assert (seen == 1).all()


def test_a_block_is_found_by_its_index() -> None:
    blocks = Blocks((10**7, 10**7), (1000, 1000))
    assert len(blocks) == 10**8
    assert blocks[10**8 - 1].stop == (10**7, 10**7)
    assert blocks[-1] == blocks[10**8 - 1]
    assert list(blocks[1:3]) == [blocks[1], blocks[2]]
    with pytest.raises(IndexError, match="none at 100000000"):
        blocks[10**8]
