"""
What a person sees who starts the gateway in a terminal: where it listens, the key,
and a ready-to-paste ``curl`` for each dialect that can be answered.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import attrs
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress

from aiclient2api.interfaces import IDialect
from aiclient2api.web.setup import Setup

_ANY = ("0.0.0.0", "::")


@attrs.frozen
class Door:
    """
    One listener, as it is told of.

    :ivar bound: What is listened on, for the log.
    :ivar url: How a client on this machine reaches it.
    :ivar options: What ``curl`` needs besides, with a space behind it.
    """

    bound: str
    url: str
    options: str = ""

    @classmethod
    def of(cls, address: object, *, secure: bool = False) -> Door:
        """Return the door at *address*; *secure* if TLS is spoken there."""
        scheme = "https" if secure else "http"
        if isinstance(address, IPv4Address | IPv6Address):
            return cls(
                _url(scheme, address.host, address.port),
                _url(scheme, "127.0.0.1" if address.host in _ANY else address.host, address.port),
            )
        if isinstance(address, UNIXAddress):
            path = os.fsdecode(address.name or b"")
            return cls(f"unix:{path}", "http://localhost", f"--unix-socket {shlex.quote(path)} ")
        return cls(str(address), str(address))


def _url(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def banner(
    door: Door, setup: Setup, *, key_file: Path | None, made_key: str | None, is_open: bool
) -> str:
    """
    Return the text.

    :param door: The first listener.
    :param key_file: Where the gateway's own key is kept, None if keys are configured.
    :param made_key: The key, if it was made just now: it is shown this once.
    :param is_open: True if anyone may call without a key.
    """
    lines = [f"aiclient2api listens on {door.bound}", ""]
    if made_key is not None:
        lines += [f"Key (made now, shown once, kept in {key_file}):", f"  {made_key}", ""]
    elif key_file is not None:
        lines += [f"Key: in {key_file}", ""]
    if is_open:
        header = ""
    elif key_file is not None:
        header = f'-H "Authorization: Bearer $(cat {shlex.quote(str(key_file))})" '
    else:
        header = '-H "Authorization: Bearer $AICLIENT2API_KEY" '
        lines += ["To try it, put a key that may call into $AICLIENT2API_KEY:", ""]
    for dialect in reversed(setup.dialects):
        model = _answerable(dialect, setup)
        if model is not None:
            path, body = dialect.example(model=model)
            lines += [
                f"{dialect.title}:",
                f"  curl {door.options}{door.url}{path} {header}"
                "-H 'Content-Type: application/json' \\",
                f"    -d {shlex.quote(body.decode())}",
                "",
            ]
    return "\n".join(lines)


def _answerable(dialect: IDialect, setup: Setup) -> str | None:
    directory = setup.directory
    # Any provider answers any dialect; one that speaks it needs no conversion.
    speaking = directory.speaking(dialect.name, tuple(setup.seats)) or tuple(setup.seats)
    # One whose models are known gives an example that needs no editing.
    for name in sorted(speaking, key=lambda name: (not directory.served[name], _rank(name, setup))):
        models = directory.served[name]
        model = next(iter(models), "MODEL")
        return model if name == directory.default else f"{name}:{model}"
    return None


def _rank(name: str, setup: Setup) -> int:
    defaults = list(setup.directory.defaults)
    return defaults.index(name) if name in defaults else len(defaults)
