"""
Where the gateway listens: endpoint strings, checked before a reactor exists.

Only the form is judged here; Twisted's own parser opens them later, in ``tap.py``.
"""

from __future__ import annotations

import ipaddress
import os
import re

import attrs

from aiclient2api.config.values import Given, Wrong, is_loopback, show

_KINDS = ("tcp", "tcp6", "ssl", "tls", "unix", "systemd")
_WITH_PORT = ("tcp", "tcp6", "ssl", "tls")
_PATHS = ("address", "privateKey", "certKey", "extraCertChain", "dhParameters")
_READ = ("privateKey", "certKey", "extraCertChain", "dhParameters")
_EXAMPLE = '"tcp:3000:interface=127.0.0.1"'
_IPV6 = r'write an IPv6 one as "tcp:3000:interface=\\:\\:1"'


@attrs.frozen
class _Parts:
    kind: str
    args: tuple[str, ...]
    named: dict[str, str]


def _parts(text: str) -> _Parts:
    """Cut an endpoint string as Twisted does: ``:`` and ``=``, each after no backslash."""
    args: list[str] = []
    named: dict[str, str] = {}
    for piece in re.findall(r"(?:^|:)((?:\\.|[^:\\])*)", text):
        match = re.match(r"((?:\\.|[^=\\])*)=(.*)$", piece, re.DOTALL)
        value = re.sub(r"\\(.)", r"\1", match.group(2) if match else piece)
        if match:
            named[re.sub(r"\\(.)", r"\1", match.group(1))] = value
        else:
            args.append(value)
    return _Parts(args[0] if args else "", tuple(args[1:]), named)


def endpoint(given: Given) -> str:
    """Read one Twisted server endpoint string."""
    text = given.value
    if not isinstance(text, str):
        raise Wrong(f"is {show(text)}; write an endpoint such as {_EXAMPLE}")
    text = text.strip()
    parts = _parts(text)
    if parts.kind not in _KINDS or not text.isprintable():
        raise Wrong(
            f"is {show(text)}, no endpoint that is known; write one such as {_EXAMPLE}"
            f" (it may begin with {', '.join(_KINDS)})"
        )
    if parts.kind in _WITH_PORT:
        port = parts.named.get("port", parts.args[0] if parts.args else "")
        if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
            raise Wrong(f"has {show(port)} for a port; write one from 0 to 65535, as in {_EXAMPLE}")
        interface = _interface(parts)
        if ":" in interface and not _is_address(interface):
            raise Wrong(f"has an interface that is no address; {_IPV6}")
        if "interface" in parts.named and len(parts.args) > 1:
            raise Wrong(f"has a colon too many; {_IPV6}")
    paths = [parts.named[name] for name in _PATHS if name in parts.named]
    if parts.kind == "unix":
        paths += parts.args[:1]
        if not paths:
            raise Wrong('has no path; write one such as "unix:/run/aiclient2api/socket"')
    for path in paths:
        if not path.startswith("/"):
            raise Wrong(
                "has a relative path, and a daemon changes its folder; write the whole path"
            )
    for name in _READ:
        if name in parts.named and not os.path.exists(parts.named[name]):
            raise Wrong(f"names {show(parts.named[name])} as {name}, and there is no such file")
    return text


def from_host(host: str, port: int) -> str:
    """
    Return the endpoint string for a host and a port.

    :raise Wrong: if *host* can be no name and no address.
    """
    host = host.strip().strip("[]")
    if host in ("", "localhost"):
        host = "127.0.0.1"
    elif host == "*":
        host = "0.0.0.0"
    if not (_is_address(host) or re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", host)):
        raise Wrong(f'is {show(host)}; write an address such as "127.0.0.1"')
    escaped = re.sub(r"([\\:=])", r"\\\1", host)
    return f"tcp:{port}:interface={escaped}"


def is_private(endpoint: str) -> bool:
    """
    Say whether only this machine can reach *endpoint*.

    An inherited socket (``systemd:``) may be bound anywhere, so it counts as open.
    """
    parts = _parts(endpoint)
    if parts.kind == "unix":
        return True
    return parts.kind != "systemd" and is_loopback(_interface(parts))


def _interface(parts: _Parts) -> str:
    if parts.kind in ("tcp", "tcp6") and len(parts.args) > 1:
        return parts.named.get("interface", parts.args[1])
    return parts.named.get("interface", "")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
