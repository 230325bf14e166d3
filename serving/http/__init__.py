"""What every endpoint speaks: what it refuses, and in which words."""
