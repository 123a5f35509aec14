"""The domain: the meaning of an event, the newest version of a product, and the sums of the cube. No I/O, no clock."""
