"""The sample images and the simulation that makes them."""
