"""Files that mean harm, or are broken: each made by one function, with what geomedsr must say to it.

`python -m benchmarks.hostile` prints what it says; `tests/hostile` hold it to that.
"""
