"""The recipe's sections about training, and what of them goes to DeepSpeed."""
