"""The command `raymill`: its arguments, its verbs, and what the terminal shows."""
