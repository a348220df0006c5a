"""
Everything that goes wrong with a provider, before every client: what users get of it.

`answers` says what upstreams of each dialect say, `fake` plays it, `table` says what
clients are to get, `stage` brings them together, and `reading` is the client.
"""
