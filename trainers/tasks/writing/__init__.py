"""What tasks share whose answers are texts that the model writes."""
