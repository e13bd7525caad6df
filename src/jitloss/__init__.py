"""Loss functions for people who hold arrays."""
