"""The long experiments, each in its short profile."""
