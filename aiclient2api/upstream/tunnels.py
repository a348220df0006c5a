"""
What is said to a proxy before it becomes a tunnel: bytes in, bytes out, no socket.

A handshake must never know who carries its bytes. Every split of the proxy's bytes
gives the same result.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Generator
from typing import Protocol

HEAD_LIMIT = 16 * 1024
"""How many bytes a proxy's answer to CONNECT may have before its blank line."""

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/\d\.\d (\d{3})(?: ([^\r\n]*))?\r?\n")

_SOCKS_REPLIES = {
    1: "a general failure",
    2: "that its rules do not allow this target",
    3: "that the target's network is unreachable",
    4: "that the target host is unreachable or its name unknown",
    5: "that the target refused the connection",
    6: "that the connection took too long",
    7: "that it knows no CONNECT command",
    8: "that it knows no addresses of this type",
}

_Credentials = tuple[bytes, bytes] | None


class ProxyRefused(Exception):
    """The proxy will not make the tunnel; the message ends a sentence about it."""


class Handshake(Protocol):
    """
    One handshake with a proxy.

    :ivar done: True once the tunnel stands.
    :ivar rest: Bytes that came after the handshake: the target's first ones.
    """

    done: bool
    rest: bytes

    def greeting(self) -> bytes:
        """Return the bytes to send first."""

    def feed(self, data: bytes) -> bytes:
        """
        Take the proxy's next bytes; return those to send next, often none.

        :raise ProxyRefused: if there will be no tunnel.
        """


class HttpConnect:
    """
    The CONNECT method of HTTP (RFC 9110, section 9.3.6), with Basic credentials.

    :param host: A name or an address literal, without brackets.
    """

    def __init__(self, *, host: str, port: int, credentials: _Credentials = None) -> None:
        self.done = False
        self.rest = b""
        self._authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._credentials = credentials
        self._buffer = b""

    def greeting(self) -> bytes:
        """Return the request."""
        lines = [f"CONNECT {self._authority} HTTP/1.1", f"Host: {self._authority}"]
        if self._credentials is not None:
            token = base64.b64encode(b":".join(self._credentials)).decode("ascii")
            lines.append(f"Proxy-Authorization: Basic {token}")
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii")

    def feed(self, data: bytes) -> bytes:
        """Take the proxy's next bytes; there is never anything more to send."""
        self._buffer += data
        while not self.done:
            end = _HEAD_END.search(self._buffer)
            if (end.end() if end else len(self._buffer)) > HEAD_LIMIT:
                raise ProxyRefused("answered CONNECT with far too long a header")
            if end is None:
                return b""
            head, self._buffer = self._buffer[: end.end()], self._buffer[end.end() :]
            self._judge(head)
        self.rest, self._buffer = self._buffer, b""
        return b""

    def _judge(self, head: bytes) -> None:
        status = _STATUS.match(head)
        if status is None:
            raise ProxyRefused("did not answer CONNECT as an HTTP proxy does")
        code = int(status[1])
        if code == 407:
            known = self._credentials is not None
            raise ProxyRefused(
                "refused the user name and password in its URL (407)"
                if known
                else "asks for a user name and password (407): put them into its URL"
            )
        if code >= 300:
            raise ProxyRefused(f"refused to connect to the target (status {code})")
        self.done = code >= 200


class Socks5:
    """
    SOCKS 5 (RFC 1928), open or with user name and password (RFC 1929).

    :param host: A name, which the proxy resolves, or an address literal.
    """

    def __init__(self, *, host: str, port: int, credentials: _Credentials = None) -> None:
        self.done = False
        self.rest = b""
        self._credentials = credentials
        self._target = _socks_address(host) + port.to_bytes(2, "big")
        self._buffer = b""
        self._talk = self._conversation()
        self._wanted, self._first = next(self._talk)

    def greeting(self) -> bytes:
        """Return the offer of methods."""
        return self._first

    def feed(self, data: bytes) -> bytes:
        """Take the proxy's next bytes; return the next message once it is due."""
        self._buffer += data
        out = b""
        while not self.done and len(self._buffer) >= self._wanted:
            piece, self._buffer = self._buffer[: self._wanted], self._buffer[self._wanted :]
            try:
                self._wanted, message = self._talk.send(piece)
            except StopIteration:
                self.done = True
            else:
                out += message
        if self.done:
            self.rest, self._buffer = self._buffer, b""
        return out

    def _conversation(self) -> Generator[tuple[int, bytes], bytes, None]:
        """Yield how many bytes to wait for and what to send before; get those bytes."""
        offer = b"\x05\x01\x00" if self._credentials is None else b"\x05\x02\x00\x02"
        version, method = yield 2, offer
        if version != 5:
            raise ProxyRefused("does not speak SOCKS5: check the scheme of its URL")
        if method == 2 and self._credentials is not None:
            user, password = self._credentials
            login = b"\x01" + bytes([len(user)]) + user + bytes([len(password)]) + password
            _, verdict = yield 2, login
            if verdict != 0:
                raise ProxyRefused("refused the user name and password in its URL")
        elif method != 0:
            raise ProxyRefused(
                "asks for a user name and password: put them into its URL"
                if self._credentials is None
                else "accepts no way to log in that we know"
            )
        version, reply = yield 2, b"\x05\x01\x00" + self._target
        if version != 5 or reply != 0:
            raise ProxyRefused(f"reported {_SOCKS_REPLIES.get(reply, f'error {reply}')}")
        _, kind = yield 2, b""
        if kind == 3:
            length = (yield 1, b"")[0]
        elif kind in (1, 4):
            length = 4 if kind == 1 else 16
        else:
            raise ProxyRefused("answered with an address of no known type")
        yield length + 2, b""


def _socks_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode("ascii")
        if len(name) > 255:
            raise ProxyRefused("cannot take a host name of over 255 bytes") from None
        return b"\x03" + bytes([len(name)]) + name
    return (b"\x01" if address.version == 4 else b"\x04") + address.packed
