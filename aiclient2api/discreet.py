"""
How values are shown, in a log or a traceback, that may hold a secret.

It knows the form of things only, and must never need to know what is secret.
"""

from __future__ import annotations

import re


def place(url: str) -> str:
    """Return *url* as it may be shown: what stands around its host may give access."""
    scheme, found, rest = url.partition("://")
    if not found:
        return "'...'"
    return f"'{scheme}://{re.split('[/?#]', rest)[0].rpartition('@')[2]}/...'"
