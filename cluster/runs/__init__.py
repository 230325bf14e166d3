"""Running a recipe: the table of stages, run records, progress, the ledger of wall time."""
