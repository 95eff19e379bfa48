"""Ways to write and ways to read, as tables, for every engine; used by the conformance suite and by a proof."""
