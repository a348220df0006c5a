"""Chat Completions in four directions: requests and answers, read and written."""
