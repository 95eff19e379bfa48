"""Small applications to copy from, each run by a test of its own in `tests/examples`."""
