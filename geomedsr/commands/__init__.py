"""What `geomedsr` can be told to do: one module each, found by its file's name; heavy imports wait inside."""
