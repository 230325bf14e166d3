"""Preference: of two answers to a prompt, which is the better one (DPO and its kin)."""
