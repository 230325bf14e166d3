"""Trainings on Ray Train's worker groups: elasticity, and what follows a failure."""
