"""`python -m geomedsr` is the program `geomedsr`."""

from geomedsr.cli import main

if __name__ == "__main__":
    main()
