"""What only a GPU shows: `bash tests/gpu/run.sh`, or `--cpu` for the same in small on CPUs."""
