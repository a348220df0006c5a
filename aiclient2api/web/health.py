"""Tell that the process lives, and who it is. Asks nobody and checks nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from aiclient2api import __version__
from aiclient2api.web.replies import to_json


def liveness(*, provider: str | None, seconds: float) -> bytes:
    """
    Return the body of ``GET /health``.

    :param provider: The default provider's name.
    :param seconds: Unix time.
    """
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    timestamp = moment.replace("+00:00", "Z")
    return to_json({"status": "healthy", "timestamp": timestamp, "provider": provider})


def greeting(paths: Sequence[str]) -> bytes:
    """Return the body of ``GET /``."""
    return to_json({"name": "aiclient2api", "version": __version__, "endpoints": list(paths)})
