"""Each application of `examples`, used as its users would."""
