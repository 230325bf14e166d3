"""Shards to training: which samples come when, and their rows."""
