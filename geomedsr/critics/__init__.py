"""Critics that adversarial training learns, one file each: a module's `build(ndim, channels, **settings)` gives one."""
