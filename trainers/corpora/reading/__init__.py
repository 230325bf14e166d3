"""From files, archives, packages and datasets to documents, part by part."""
