"""Imported last by the server which forks worlds. What it imported is no garbage, but would
cost each collection 0.4 s, and DeepSpeed asks for one an engine."""

import gc

gc.freeze()
