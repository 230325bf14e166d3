"""Text classification: sentiment, topics and their like, with one label a text or several."""
