"""The dialects, a folder each: what is read and written in every direction."""
