"""Measurements, side by side with peers: `python -m tests.bench.NAME [--json] [--only METRIC]
[--repeats N]`. The last results stand in RESULTS.md."""
