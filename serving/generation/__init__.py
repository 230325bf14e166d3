"""Models that write, behind OpenAI's API."""
