"""How accounts are logged in whose owners have no key, and how their tokens are kept."""
