"""The tests of polysession, a package so that `tests.engines` can be imported; pytest finds each file by its path."""
