"""Pages that show what became of texts: HTML in one file, without scripts, fetching nothing."""
