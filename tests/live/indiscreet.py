"""
Upstreams that quote the key they were asked with, in every way an answer can hold it.

`STYLES` are the ways. Nothing here knows what may become of it.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from urllib.parse import quote

from aiclient2api.testing import (
    Chunk,
    Close,
    EndChunks,
    Head,
    Received,
    Reset,
    Script,
    Send,
    json_reply,
    raw_reply,
)
from tests.live.faults import MESSAGE, Row

Style = Callable[[Row, str], Script]


def key_of(request: Received) -> str:
    """Return the key that a request came with, wherever it stands."""
    for name in (b"authorization", b"x-api-key", b"x-goog-api-key", b"proxy-authorization"):
        value = request.header(name)
        if value:
            return value.decode().removeprefix("Bearer ")
    return request.target.partition("key=")[2].partition("&")[0]


def _error(said: str, code: str = "invalid_api_key") -> dict[str, object]:
    return {"error": {"message": said, "code": code, "type": said, "param": said, "status": said}}


def _chunked(status: int, kind: bytes, pieces: Sequence[bytes], *ends: object) -> Script:
    head = Head(status, ((b"content-type", kind), (b"transfer-encoding", b"chunked")))
    return (head, *map(Chunk, pieces), *(ends or (EndChunks(),)))  # type: ignore[arg-type]


def _split(data: bytes, size: int = 7) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _record(row: Row, said: str) -> bytes:
    """Return the record by which the row's dialect tells of an error, with other words."""
    return row.error.replace(MESSAGE.encode(), json.dumps(said)[1:-1].encode())


def _in_json(row: Row, key: str) -> Script:
    headers = ((b"x-request-id", key.encode()), (b"set-cookie", f"k={key}".encode()))
    return json_reply(401, _error(f"Bad key: {key}", key), headers=headers)


def _in_html(row: Row, key: str) -> Script:
    page = f"<html><body>No such key: {key}</body></html>".encode()
    return raw_reply(401, page, content_type=b"text/html")


def _in_a_redirect(row: Row, key: str) -> Script:
    place = f"https://me:{quote(key)}@elsewhere.example/{quote(key, safe='')}?key={quote(key)}"
    return raw_reply(302, b"", headers=((b"location", place.encode()),))


def _as_words(row: Row, key: str) -> Script:
    return raw_reply(500, f"Exception in handler(key={key})".encode(), content_type=b"text/plain")


def _in_base64(row: Row, key: str) -> Script:
    said = [b64encode(lead + key.encode()).decode() for lead in (b"", b"a", b"ab")]
    said.append(urlsafe_b64encode(b"user:" + key.encode()).decode())
    return json_reply(500, _error(f"Authorization: Basic {' '.join(said)}"))


def _in_hexadecimal(row: Row, key: str) -> Script:
    raw = key.encode().hex()
    headers = ((b"retry-after", b"60"),)
    return json_reply(429, _error(f"dump {raw} {raw.upper()}"), headers=headers)


def _quoted(row: Row, key: str) -> Script:
    escaped = "".join(f"\\u{ord(each):04X}" if each in "/+=." else each for each in key)
    body = json.dumps(_error(f"GET /v1/models?key={quote(key, safe='')}")).replace("GET", escaped)
    return raw_reply(400, body.encode())


def _in_pieces(row: Row, key: str) -> Script:
    return _chunked(401, b"application/json", _split(json.dumps(_error(f"no {key}")).encode()))


def _cut_in_the_middle(row: Row, key: str) -> Script:
    body = b'{"error":{"message":"no ' + key[:-3].encode()
    head = Head(401, ((b"content-type", b"application/json"), (b"content-length", b"4000")))
    return (head, Send(body), Close())


def _packed(row: Row, key: str) -> Script:
    packed = gzip.compress(json.dumps(_error(f"no {key}")).encode())
    return raw_reply(503, packed, headers=((b"content-encoding", b"gzip"),))


def _error_first(row: Row, key: str) -> Script:
    record = _record(row, f"no {key}")
    if row.framing == "whole":
        return raw_reply(200, record)
    if row.framing == "json_array":
        record = b"[" + record + b"]"
    return _chunked(200, row.content_type, _split(record, 11))


def _error_midway(row: Row, key: str) -> Script:
    if row.framing == "whole":
        return json_reply(500, _error(f"no {key}"))
    record = _record(row, f"no {key}")
    if row.framing == "json_array":
        record = b",\r\n" + record
    return _chunked(200, row.content_type, [row.shown, *_split(record, 11)])


def _garbage(row: Row, key: str) -> Script:
    # Not in the middle of a stream: where that is relayed as it is, so is what is no JSON.
    odd = f'{{"key": "{key}", nonsense'.encode()
    if row.framing == "whole":
        return raw_reply(200, odd)
    record = b"data: " + odd + b"\n\n" if row.framing == "sse" else b"[" + odd
    return _chunked(200, row.content_type, [record])


def _in_the_head_of_a_good_answer(row: Row, key: str) -> Script:
    headers = ((b"x-request-id", key.encode()), (b"openai-version", key.encode()))
    return raw_reply(200, row.body, content_type=row.content_type, headers=headers)


def _then_a_reset(row: Row, key: str) -> Script:
    return (Head(200, ((b"content-type", row.content_type), (b"x-key", key.encode()))), Reset())


def _forbidden(row: Row, key: str) -> Script:
    details = [{"reason": key, "metadata": {"consumer": key}, "violations": [{"quotaId": key}]}]
    told = {"error": {"message": f"{key}: denied", "status": "PERMISSION_DENIED"}}
    told["error"]["details"] = details  # type: ignore[assignment]
    return json_reply(403, [told])


STYLES: Sequence[Style] = (
    _in_json,
    _in_html,
    _in_a_redirect,
    _as_words,
    _in_base64,
    _in_hexadecimal,
    _quoted,
    _in_pieces,
    _cut_in_the_middle,
    _packed,
    _error_first,
    _error_midway,
    _garbage,
    _in_the_head_of_a_good_answer,
    _then_a_reset,
    _forbidden,
)
