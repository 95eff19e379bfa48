"""The benchmarks work, and what does not differ from run to run is as it is known to be."""
