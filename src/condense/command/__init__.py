"""The `condense` command: what it takes, what it prints, and the user's verbs."""
