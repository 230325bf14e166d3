"""A trained model on rows: by workers that hold it, for batch scoring and for evaluation."""
