"""Texts to tokens, and tokens to rows of a shard. Pure."""
