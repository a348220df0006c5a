"""One folder per wire format: what its bytes mean, and nothing about who sends them."""
