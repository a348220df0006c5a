"""What outlives a request: kept in memory or in one file, for each owner apart."""
