"""Models: from a shape, a config or weights, and back to a Hugging Face folder."""
