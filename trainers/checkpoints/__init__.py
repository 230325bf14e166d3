"""Checkpoints: what a training resumes from, at any number of workers and under any ZeRO stage."""
