"""Conversations: their rows, and how a chat template makes token ids of them."""
