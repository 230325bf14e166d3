"""The objectives of pretraining: one file an objective."""
