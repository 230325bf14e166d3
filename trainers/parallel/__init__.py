"""Workers that share more than data: where each stands, and what they share."""
