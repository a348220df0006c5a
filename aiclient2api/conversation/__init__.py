"""The hub: what a conversation is, whoever wrote it down, and what an answer is made of."""
