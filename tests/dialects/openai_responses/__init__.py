"""OpenAI Responses: what is read and written, in both directions."""
