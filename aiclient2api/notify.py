"""
Tell systemd how it goes, where it wants to know: `sd_notify(3)`, as far as we need it.

It must never fail: whoever started us may have gone.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

VARIABLE = "NOTIFY_SOCKET"


def notify(environ: Mapping[str, str], *lines: str) -> None:
    """
    Tell it, if there is anybody to be told.

    :param lines: Such as ``READY=1``.
    """
    address = environ.get(VARIABLE, "")
    if address[:1] not in ("/", "@"):
        return
    name = os.fsencode(address)
    if name.startswith(b"@"):
        name = b"\0" + name[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.setblocking(False)
        told.sendto("\n".join(lines).encode(), name)
