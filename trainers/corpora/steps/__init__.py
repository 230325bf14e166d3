"""The steps of the stage `shard`, which run on the cluster, an item a task."""
