"""What of a model is trained: all its weights, or an adapter beside frozen ones."""
