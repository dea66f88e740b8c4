"""Data from files: conversations, preference pairs and prompts, each checked line by line, with an account of what was left out."""
