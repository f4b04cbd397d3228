"""The extensions of a NIfTI header: how an image was made is one of them, a comment that holds JSON.

Between header and voxels stand four bytes, the first of which says whether extensions follow; each has its size (a
multiple of 16) and its code in front. Those of others are kept byte by byte.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Literal

__all__ = ["provenance_in", "with_provenance"]

_COMMENT = 6
_MARK = b'{"geomedsr":'


def provenance_in(after: bytes, order: Literal["<", ">"]) -> str | None:
    """The text that `with_provenance` put among the bytes behind a header, or None."""
    found = [data for code, data in _extensions(after, order) if _is_ours(code, data)]
    return found[-1].rstrip(b"\0").decode("utf-8", "replace") if found else None


def with_provenance(after: bytes, text: str, order: str) -> bytes:
    """The bytes behind a header with one more extension, instead of an older one of this kind.

    Where what is there is no list of extensions, it stays as it is.
    """
    data = text.encode()
    data += bytes(-(len(data) + 8) % 16)
    kept = [(code, old) for code, old in _extensions(after, order) if not _is_ours(code, old)]
    if after[:1] not in (b"", b"\0") and not _is_whole(after, order):
        return after
    blocks = [struct.pack(f"{order}ii", len(one) + 8, code) + one for code, one in (*kept, (_COMMENT, data))]
    return b"\1\0\0\0" + b"".join(blocks)


def _is_ours(code: int, data: bytes) -> bool:
    return code == _COMMENT and data.startswith(_MARK)


def _is_whole(after: bytes, order: str) -> bool:
    """Whether nothing but zeros follows the extensions."""
    end = 4 + sum(len(data) + 8 for _, data in _extensions(after, order))
    return not after[end:].strip(b"\0")


def _extensions(after: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """The code and the content of each extension, up to the first that cannot be."""
    place = 4
    while after[:1] not in (b"", b"\0") and place + 8 <= len(after):
        size, code = struct.unpack_from(f"{order}ii", after, place)
        if size < 16 or size % 16 or place + size > len(after):
            return
        yield code, after[place + 8 : place + size]
        place += size
