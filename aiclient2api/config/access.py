"""
Who may call, and from where: listeners, callers' keys and web origins.

The one rule that matters stands in `exposure`: beyond this machine nobody gets in
without a key, nor with one that is printed in somebody's documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from aiclient2api.config import keys
from aiclient2api.config.files import Findings, Reading
from aiclient2api.config.listen import from_host, is_private
from aiclient2api.config.values import Given, Place, Wrong, secret

PUBLISHED_KEYS = frozenset(
    (
        "123456",
        "your-secret-key",
        "your-api-key",
        "your_api_key",
        "your-key",
        "your-key-here",
        "sk-your-key",
        "sk-your-api-key",
        "sk-...",
        "sk-1234",
        "sk-123456",
        "sk-xxx",
        "sk-ant-...",
        "changeme",
        "change-me",
        "secret",
        "password",
        "test",
        "admin",
        "admin123",
    )
)
"""Keys that stand in somebody's documentation: everybody knows them."""

_REMEDY = (
    "write a long random one, such as the output of `openssl rand -hex 32`, or leave it"
    " out and one is made, or listen on 127.0.0.1 only"
)


@attrs.frozen
class CallerKeys:
    """
    The keys of callers.

    :ivar where: Which key of which source says so.
    :ivar keys: None: none configured; ``()``: open on purpose.
    """

    where: str
    keys: tuple[str, ...] | None = attrs.field(repr=False)


def listeners(reading: Reading) -> tuple[str, ...]:
    """
    Return the endpoint strings to listen on.

    ``listen`` comes before host and port, unless these are flags and it is not.
    """
    for document in reading.documents:
        layer = Reading((document,), reading.findings)
        found = layer.given(keys.LISTEN)
        plain = [one for one in (layer.given(keys.HOST), layer.given(keys.PORT)) if one]
        if found is None and not plain:
            continue
        if found is None:
            break
        for one in plain:
            reading.findings.warn(f"{one.where}: is not used, because {found.where} is set")
        if found.value in ([], ""):
            reading.findings.fault(f"{found.where}: is empty; write an endpoint or remove it")
        taken = [layer.read(item, keys.LISTEN, None) for item in found.items()]
        return tuple(dict.fromkeys(text for text in taken if text))
    given = reading.given(keys.HOST)
    port = reading.take(keys.PORT)
    try:
        return (from_host(reading.take(keys.HOST) or "", port),)
    except Wrong as wrong:
        reading.findings.fault(f"{given.where if given else 'host'}: {wrong}")
        return ()


def caller_keys(reading: Reading, environ: Mapping[str, str], place: Place) -> CallerKeys:
    """
    Return the keys callers must present.

    A flag comes first, then ``AICLIENT2API_KEY``, then the file named by
    ``AICLIENT2API_KEY_FILE`` (one key a line), then the configuration file.
    """
    findings = reading.findings
    flags, document = reading.documents[0], reading.documents[-1]
    given = flags.given(keys.REQUIRED_API_KEY, findings)
    if given is None and environ.get("AICLIENT2API_KEY"):
        given = Given("AICLIENT2API_KEY", environ["AICLIENT2API_KEY"], place)
    if given is None and environ.get("AICLIENT2API_KEY_FILE"):
        given = _key_file(environ["AICLIENT2API_KEY_FILE"], place, findings)
    if given is None:
        given = document.given(keys.REQUIRED_API_KEY, findings)
    if given is None:
        return CallerKeys("required_api_key", None)
    if given.value == "":
        return CallerKeys(given.where, ())
    if given.value == []:
        findings.fault(
            f'{given.where}: is an empty list; write a key in it, or "" to let everybody in'
        )
    taken: list[str] = []
    for item in given.items():
        try:
            key = secret(item)
        except Wrong as wrong:
            findings.fault(f"{item.where}: {wrong}")
            continue
        if not key:
            findings.fault(f"{item.where}: is empty; write a key or remove it")
        taken.append(key)
    return CallerKeys(given.where, tuple(dict.fromkeys(filter(None, taken))) or None)


def _key_file(named: str, place: Place, findings: Findings) -> Given | None:
    where = "AICLIENT2API_KEY_FILE"
    try:
        path: Path = place.resolve(named)
        lines = [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except Wrong as wrong:
        findings.fault(f"{where}: {wrong}")
    except OSError as error:
        findings.fault(f"{where}: {named} cannot be read ({error.strerror}); name another")
    except UnicodeDecodeError:
        findings.fault(f"{where}: {named} is not UTF-8; write one key a line")
    else:
        if lines:
            return Given(where, lines, place)
        findings.fault(f"{where}: {named} is empty; write one key a line")
    return None


def exposure(listen: tuple[str, ...], caller: CallerKeys, findings: Findings) -> None:
    """Refuse to be reached from other machines with no key, or with a published one."""
    beyond = [endpoint for endpoint in listen if not is_private(endpoint)]
    published = [key for key in caller.keys or () if key.lower() in PUBLISHED_KEYS]
    if caller.keys == () and beyond:
        findings.fault(
            f"{caller.where}: is empty, so that anybody could call, and {beyond[0]} can be"
            f" reached from other machines; {_REMEDY}"
        )
    elif caller.keys == ():
        findings.warn(f"{caller.where}: is empty: every program on this machine may call")
    elif published and beyond:
        findings.fault(
            f"{caller.where}: is a key from a published example, known to everybody, and"
            f" {beyond[0]} can be reached from other machines; {_REMEDY}"
        )
    elif published:
        findings.warn(
            f"{caller.where}: is a key from a published example, known to everybody;"
            " write one of your own"
        )


def any_page(caller: CallerKeys, listed: tuple[str, ...], findings: Findings) -> None:
    """Warn of an open gateway that lets every web page call."""
    if caller.keys == () and "*" in listed:
        findings.warn(
            "cors_origins: is *, and nobody is asked for a key: every web page that is opened on"
            " this machine can use your accounts; list the origins, or set required_api_key"
        )


def origins(reading: Reading) -> tuple[str, ...]:
    """Return the web origins whose pages may call."""
    given = reading.given(keys.CORS_ORIGINS)
    if given is None:
        return ()
    if isinstance(given.value, str):
        given = attrs.evolve(given, value=[one for one in given.value.split(",") if one.strip()])
    taken = [reading.read(item, keys.CORS_ORIGINS, "") for item in given.items()]
    return tuple(dict.fromkeys(one for one in taken if one))
