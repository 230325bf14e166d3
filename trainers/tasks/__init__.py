"""What models learn: one file a task."""
