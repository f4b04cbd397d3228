"""What training makes small, one file each: a module's `build(**settings)` gives a `Loss`."""
