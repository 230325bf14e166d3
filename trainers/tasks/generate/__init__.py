"""From a source to a target: summaries, translations, any text to text."""
