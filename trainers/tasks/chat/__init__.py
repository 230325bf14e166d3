"""Conversations: the answers of an assistant, with tools and reasoning where rows have them."""
