"""Recipes: YAML to frozen sections; every error names file, line, key, value and remedy."""
