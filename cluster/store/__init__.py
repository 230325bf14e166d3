"""A workspace on disk or an object store: files, artifacts and their lineage, the cache."""
