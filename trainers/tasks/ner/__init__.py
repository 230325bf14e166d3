"""Named entities: spans of a text with labels, such as persons and places."""
