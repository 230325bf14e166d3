"""Checkpoints: what a training goes on from, at any number of workers and under any ZeRO stage."""
