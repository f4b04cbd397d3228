"""Claim: no input crashes, hangs or swells geomedsr; it is read, or refused as a GeomedsrError.

`python -m benchmarks.fuzz --seconds 60` tries mutations of valid inputs, door by door, by coverage (atheris:
`pip install geomedsr[fuzz]`). What it found once is kept in `found.py` and held to in tests/test_fuzz.py.
"""
