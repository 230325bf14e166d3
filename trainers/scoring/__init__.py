"""Figures of trained models: scoring, evaluation and what stands beside it."""
