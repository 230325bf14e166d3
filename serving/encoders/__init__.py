"""The endpoint of encoder tasks on Ray Serve."""
