"""What every stage needs and knows nothing of models: recipes, storage, artifacts, Ray, the CLI."""

__version__ = "0.1.0"
