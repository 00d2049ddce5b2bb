"""Benchmarks: what hybridq takes beside its peers. `python -m bench --help` explains."""
