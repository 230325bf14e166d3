"""What makes texts the same, or alike, or quotes of each other. Pure."""
