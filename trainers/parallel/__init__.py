"""Ranks with the same sequences: which they are, and how they divide tokens or weights."""
