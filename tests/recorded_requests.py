"""
The recorded requests that ask for an answer or a count, each as its dialect parses it.

It imports nothing that judges them.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote

import attrs

from aiclient2api.dialects.all import DIALECTS
from aiclient2api.values import Route
from tests.recordings import Recording, all_recordings


@attrs.frozen
class Recorded:
    """One request."""

    name: str
    dialect: str
    action: str
    route: Route = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


def _recorded(recording: Recording) -> Recorded:
    dialect = next(each for each in DIALECTS if each.name == recording.dialect)
    headers = {name.encode(): value.encode() for name, value in recording.headers}
    for endpoint in dialect.endpoints:
        stem, variable, _ = endpoint.path.partition("<path:rest>")
        fits = recording.path.startswith(stem) if variable else recording.path == stem
        if endpoint.method == recording.method and fits:
            route = dialect.route(
                endpoint=endpoint,
                rest=unquote(recording.path.removeprefix(stem)) if variable else "",
                query=parse_qsl(recording.query, keep_blank_values=True),
                headers=headers,
            )
            return Recorded(
                recording.name, dialect.name, recording.action, route, recording.as_bytes()
            )
    raise LookupError(recording.name)


RECORDED = tuple(
    _recorded(each)
    for each in all_recordings()
    if each.body is not None and each.dialect is not None and not each.malformed
)
