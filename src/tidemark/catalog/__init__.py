"""The domain: what an event means, which version of a product counts, how the cube adds up. No I/O, no clock."""
