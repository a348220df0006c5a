"""Anthropic Messages: its requests and its answers, read and written."""
