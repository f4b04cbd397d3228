"""The kinds of values that options take: functions from the text to the value."""

from __future__ import annotations

import re

import click

__all__ = ["amount", "key_value", "numbers"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}

_LEAST = 10**6


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers.

    Example:
        >>> numbers("1,1,4")
        (1, 1, 4)
    """
    if not re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text):
        raise click.BadParameter(f"'{text}' is not a list of whole numbers such as 2 or 1,1,4.")
    return tuple(int(part) for part in text.split(","))


def amount(text: str) -> int:
    """Units: bytes.

    Example:
        >>> amount("4GB"), amount("512 MiB")
        (4000000000, 536870912)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*((?:[kmgt]i?)?)b?\s*", text, re.IGNORECASE)
    if match is None or float(match[1]) <= 0:
        raise click.BadParameter(f"'{text}' is not an amount of memory such as 4GB or 512MiB.")
    count = int(float(match[1]) * _UNITS[match[2].lower()])
    if count < _LEAST:
        raise click.BadParameter(f"'{text}' is too little for any tile; give megabytes or more, such as 500MB.")
    return count


def key_value(text: str) -> tuple[str, str]:
    """A key and its value.

    Example:
        >>> key_value("COMPRESS=ZSTD")
        ('COMPRESS', 'ZSTD')
    """
    key, found, value = text.partition("=")
    if not found or not key.strip():
        raise click.BadParameter(f"'{text}' is not of the form KEY=VALUE.")
    return key.strip(), value.strip()
