"""Ray itself: connecting, resources, jobs."""
