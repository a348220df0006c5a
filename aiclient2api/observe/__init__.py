"""Those who are told of every exchange: what they keep, and where they put it."""
