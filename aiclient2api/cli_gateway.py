"""
Ask the gateway that runs on this machine, for a command in a terminal.

It waits for answers, so nothing that runs inside the gateway may import it. Where the
gateway is and which key opens it, it learns from the settings; what is asked and what an
answer means, it never knows.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
from typing import Any

import attrs

from aiclient2api.config import Settings
from aiclient2api.errors import ConfigurationError
from aiclient2api.statedir import KEY_FILE

SECONDS = 5.0
"""How long an answer is waited for."""

_LARGEST = 64 * 1024 * 1024
_ELSEWHERE = "name another door with --host and --port, or with --listen"


@attrs.frozen
class Answer:
    """
    What the gateway said.

    :ivar body: The JSON in it, decoded.
    """

    status: int
    body: Any = attrs.field(repr=False)

    @property
    def message(self) -> str:
        """The sentence of an error, or ``""``."""
        told = self.body.get("error", self.body) if isinstance(self.body, dict) else None
        message = told.get("message") if isinstance(told, dict) else told
        return message if isinstance(message, str) else ""


@attrs.frozen
class RunningGateway:
    """
    Where a gateway of these settings listens, if one runs.

    :ivar where: For sentences.
    """

    settings: Settings = attrs.field(repr=False)
    where: str
    _door: _Door = attrs.field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> RunningGateway:
        """
        Return the gateway behind the first endpoint.

        :raise ConfigurationError: if nobody can tell from the settings where that is.
        """
        door = _door(settings.listen[0])
        return cls(settings, door.where, door)

    def ask(self, method: str, path: str, body: object = None) -> Answer | None:
        """
        Return the gateway's answer; None if nobody listens there.

        :raise ConfigurationError: if whoever answers is no gateway, or refuses the key.
        """
        # The key is not shown to whoever happens to have the port.
        alive = self._asked("GET", "/health", None, {})
        if alive is None:
            return None
        if not isinstance(alive.body, dict) or not {"status", "provider"} <= alive.body.keys():
            raise ConfigurationError(
                [f"what answers at {self.where} is no gateway of this kind; {_ELSEWHERE}"]
            )
        headers = {"Content-Type": b"application/json"} if body is not None else {}
        key = self._key()
        if key is not None:
            headers["Authorization"] = b"Bearer " + key.encode("utf-8", "surrogateescape")
        answer = self._asked(method, path, body, headers)
        if answer is None:
            return None
        if answer.status in (401, 403):
            raise ConfigurationError(
                [
                    f"the gateway at {self.where} does not accept the key that these settings "
                    "have; name the configuration it was started with by --config and "
                    "--state-dir, or a key by --api-key"
                ]
            )
        return answer

    def _asked(
        self, method: str, path: str, body: object, headers: dict[str, bytes]
    ) -> Answer | None:
        connection = self._door.connection()
        try:
            connection.connect()
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError([self._silent(error)]) from None
        try:
            sent = None if body is None else json.dumps(body).encode()
            connection.request(method, path, sent, headers)
            response = connection.getresponse()
            content = response.read(_LARGEST)
        except (OSError, http.client.HTTPException) as error:
            raise ConfigurationError([self._silent(error)]) from None
        finally:
            connection.close()
        try:
            return Answer(response.status, json.loads(content))
        except (ValueError, RecursionError):
            return Answer(response.status, None)

    def _silent(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return f"nothing answers at {self.where} within {SECONDS:g} s; try again, or restart it"
        why = getattr(error, "strerror", None) or type(error).__name__
        return f"no gateway can be asked at {self.where} ({why}); {_ELSEWHERE}"

    def _key(self) -> str | None:
        """Return a key that may call; None if there is none, or none is asked."""
        if self.settings.keys is not None:
            return self.settings.keys[0] if self.settings.keys else None
        path = self.settings.state_dir / KEY_FILE
        try:
            return path.read_text("utf-8").strip() or None
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise ConfigurationError(
                [
                    f"the gateway's key in {path} cannot be read ({why}); run this as the user "
                    "that the gateway runs as, or name a key by --api-key"
                ]
            ) from None


@attrs.frozen
class _Door:
    """
    How to connect.

    :ivar certificate: The file that holds what the gateway shows, for TLS; else None.
    """

    host: str
    port: int
    unix: str | None = None
    certificate: str | None = None

    @property
    def where(self) -> str:
        if self.unix is not None:
            return f"unix:{self.unix}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}"

    def connection(self) -> http.client.HTTPConnection:
        if self.unix is not None:
            return _UnixConnection(self.unix)
        if self.certificate is None:
            return http.client.HTTPConnection(self.host, self.port, timeout=SECONDS)
        return http.client.HTTPSConnection(
            self.host, self.port, timeout=SECONDS, context=_context(self.certificate)
        )


def _context(certificate: str) -> ssl.SSLContext:
    """Trust the very certificate that is configured, whoever signed it and for which name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(certificate)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigurationError(
            [f"the certificate in {certificate} cannot be read ({why}); {_ELSEWHERE}"]
        ) from None
    return context


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(SECONDS)
        self.sock.connect(self._path)


def _door(endpoint: str) -> _Door:
    # Cut as Twisted does: at each colon, and then at the first equals sign, after no backslash.
    args: list[str] = []
    named: dict[str, str] = {}
    for piece in re.findall(r"(?:^|:)((?:\\.|[^:\\])*)", endpoint):
        match = re.match(r"((?:\\.|[^=\\])*)=(.*)$", piece, re.DOTALL)
        if match:
            named[_plain(match[1])] = _plain(match[2])
        else:
            args.append(_plain(piece))
    kind = args[0] if args else ""
    if kind == "unix":
        return _Door("", 0, unix=named.get("address", args[1] if len(args) > 1 else ""))
    if kind not in ("tcp", "tcp6", "ssl", "tls"):
        raise ConfigurationError(
            [f"nobody can tell from {endpoint!r} where the gateway listens; {_ELSEWHERE}"]
        )
    port = int(named.get("port", args[1] if len(args) > 1 else "0"))
    if port == 0:
        raise ConfigurationError(
            [f"the gateway listens on whichever port is free; {_ELSEWHERE}"],
        )
    host = named.get("interface", args[2] if len(args) > 2 else "")
    if host in ("", "0.0.0.0", "::"):
        host = "::1" if host == "::" or (kind == "tcp6" and not host) else "127.0.0.1"
    certificate = None
    if kind in ("ssl", "tls"):
        certificate = named.get("certKey") or named.get("privateKey") or "server.pem"
    return _Door(host, port, certificate=certificate)


def _plain(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)
