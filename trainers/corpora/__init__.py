"""Text in, Arrow out: sources, cleaning, deduplication, tokenizer, packing, and the feed."""
