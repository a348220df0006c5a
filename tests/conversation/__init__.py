"""The hub, a file for each of its modules."""
