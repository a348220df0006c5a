"""Whose key answers: the accounts of each provider and how one is leased."""
