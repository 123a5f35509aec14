"""The speed layer and the batch layer: one set of DataFrame transforms, thin entry points."""
