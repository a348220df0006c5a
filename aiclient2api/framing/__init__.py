"""Bytes to records: pure functions and small machines that know no dialect and no network."""
