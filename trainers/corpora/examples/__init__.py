"""Labelled documents: maps, rules, groups, splits."""
