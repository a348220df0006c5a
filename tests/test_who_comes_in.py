"""
Who may come in is decided by a key and by nothing else that a request says.

Every route there is, in every spelling of its path, with every header that some gateway
once believed: without the right key nobody gets more than what is public, and nothing is
asked of an upstream.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

from aiclient2api.dialects.all import DIALECTS
from aiclient2api.testing import MemoryResponse, chat_body
from aiclient2api.web.front import OPERATORS
from tests.web_fixture import KEY, GatewayTestCase, Reply

BODY = b'{"model":"m","messages":[],"input":"x","contents":[],"max_tokens":9}'
JSON = ((b"content-type", b"application/json"),)
PUBLIC = ("/", "/health", "/ready")
NAMES = {"generate": "m:generateContent", "model": "m", "stored": "resp_1", "forget": "resp_1"}

ROUTES = tuple(
    dict.fromkeys(
        [
            *(
                (each.method, each.path.replace("<path:rest>", NAMES.get(each.action, "m")))
                for dialect in DIALECTS
                for each in dialect.endpoints
            ),
            *(("POST" if path.endswith("reset") else "GET", path) for path in (*OPERATORS, "/")),
        ]
    )
)
"""Every method and path that is answered."""

HEADERS = (
    ("Host", "localhost"),
    ("Host", "127.0.0.1:1"),
    ("Host", "health"),
    ("Host", ""),
    ("X-Forwarded-For", "127.0.0.1"),
    ("X-Forwarded-Host", "localhost"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Prefix", "/health"),
    ("X-Forwarded-User", "admin"),
    ("X-Forwarded-Uri", "/health"),
    ("Forwarded", "for=127.0.0.1;host=localhost;proto=https"),
    ("X-Real-IP", "127.0.0.1"),
    ("True-Client-IP", "127.0.0.1"),
    ("X-Client-IP", "127.0.0.1"),
    ("X-Remote-User", "admin"),
    ("X-SSL-Client-Verify", "SUCCESS"),
    ("X-Original-URL", "/health"),
    ("X-Rewrite-URL", "/health"),
    ("X-HTTP-Method-Override", "OPTIONS"),
    ("X-Method-Override", "OPTIONS"),
    ("Origin", "http://127.0.0.1"),
    ("Referer", "http://127.0.0.1/health"),
    ("Upgrade", "h2c"),
    ("Cookie", f"key={KEY}; authorization=Bearer {KEY}"),
    ("Proxy-Authorization", f"Bearer {KEY}"),
    ("X-Authorization", f"Bearer {KEY}"),
    ("Authorization", f"Basic {KEY}"),
    ("Authorization", KEY),
    ("Sec-WebSocket-Protocol", f"bearer, {KEY}"),
)
"""What decides something somewhere, and nothing here."""

WRONG: Sequence[Mapping[str, str]] = (
    {},
    {"Authorization": "Bearer"},
    {"Authorization": f"Bearer {KEY}x"},
    {"Authorization": f"Bearer {KEY[:-1]}"},
    {"Authorization": f"Bearer {KEY.upper()}"},
    {"Authorization": f"Bearer {KEY} {KEY}"},
    {"Authorization": f"Bearer '{KEY}'"},
    {"X-Api-Key": "null"},
    {"X-Goog-Api-Key": "*"},
    {"X-Api-Key": "' OR 1=1 --", "X-Goog-Api-Key": "%"},
)
"""Nothing, or what is not the key."""


def spellings(path: str) -> Iterator[str]:
    """Return *path* as somebody might write it to be taken for something else."""
    yield path
    yield "/" + path
    yield path.replace("/", "//")
    yield path + "/"
    yield path.replace("/", "/./")
    yield "/health/.." + path
    yield "/health/%2e%2e" + path
    yield "/health;" + path
    yield path.replace("/", ";a=b/")[4:] or "/;"
    yield path + ";/health"
    yield path + "/../health"
    yield path + "/..;/health"
    yield path + "%00/health"
    yield path + "%20"
    yield path + "?/health"
    yield path + "%3f/health"
    yield path + "%23/health"
    yield "/" + path[1:].replace("/", "%2f")
    yield "/" + path[1:].replace("/", "%5c")
    yield "/" + path[1:].replace("/", "\\")
    yield "/" + "".join(f"%{ord(each):02x}" if each.isalpha() else each for each in path[1:])
    yield "/" + "".join(f"%25{ord(each):02x}" if each.isalpha() else each for each in path[1:])
    yield path.upper()
    yield path.title()
    yield path + ".json"
    yield path + "?key="
    yield path + "?key=wrong&api_key=" + KEY
    yield path + "?access_token=" + KEY
    yield "http://localhost" + path
    yield "http://127.0.0.1:1/health/.." + path
    yield f"http://{KEY}@health" + path
    yield "/openai-custom" + path
    yield "/auto" + path
    yield "/v1" + path


class AdmissionTests(GatewayTestCase):
    """One gateway with one key."""

    def setUp(self) -> None:
        """Build it, and see what is public."""
        self.build([])
        self.public = {self.told(self.ask("GET", path, key=None)) for path in PUBLIC}

    def told(self, reply: Reply) -> str:
        """Return what an answer says, without the time."""
        if not reply.body:
            return ""
        told = json.loads(reply.body)
        return json.dumps({key: value for key, value in told.items() if key != "timestamp"})

    def knock(self, method: str, target: str, headers: Mapping[str, str]) -> Reply:
        """Ask with these headers alone; a Host is added if there is none."""
        self.connect()
        lines = [f"{method} {target} HTTP/1.1", *map(": ".join, headers.items())]
        if "Host" not in headers:
            lines.append("Host: gateway")
        body = b"" if method == "GET" else BODY
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.channel.dataReceived("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return self.reply()

    def assert_outside(self, reply: Reply, where: object) -> None:
        """Nothing was given that is not public, and nothing asked of an upstream."""
        self.assertEqual(self.upstream.sent, [], where)
        self.assertEqual(self.answers.kept, {}, where)
        if reply.status < 400:
            self.assertIn(self.told(reply), {*self.public, ""}, where)
        else:
            self.assertIn(reply.status, (400, 401, 404, 405), where)
            self.assertNotIn(KEY.encode(), reply.body, where)
        self.assertNotIn("x-aiclient2api-account", reply.headers)

    def test_no_spelling_opens(self) -> None:
        """All routes, all spellings, no key or a wrong one; a believable header each."""
        headers = cycle(HEADERS)
        for method, path in ROUTES:
            for target in spellings(path):
                for wrong in (WRONG[0], WRONG[2]):
                    name, value = next(headers)
                    reply = self.knock(method, target, {name: value, **wrong})
                    self.assert_outside(reply, (method, target, wrong, name))

    def test_no_header_opens(self) -> None:
        """All routes with each of the headers, and with each that is not the key."""
        for method, path in ROUTES:
            for name, value in HEADERS:
                reply = self.knock(method, path, {name: value})
                self.assert_outside(reply, (method, path, name))
                if path not in PUBLIC:
                    self.assertEqual(reply.status, 401, (method, path, name, reply.body))
            for wrong in WRONG:
                reply = self.knock(method, path, wrong)
                self.assert_outside(reply, (method, path, wrong))
                if path not in PUBLIC:
                    self.assertEqual(reply.status, 401, (method, path, wrong))

    def test_other_methods_open_nothing(self) -> None:
        """Neither HEAD nor OPTIONS nor one of nobody's."""
        for _, path in ROUTES:
            for method in ("HEAD", "OPTIONS", "PUT", "PATCH", "TRACE", "DELETE", "GET", "POST"):
                reply = self.knock(method, path, {})
                self.assert_outside(reply, (method, path))

    def test_with_the_key_they_change_nothing(self) -> None:
        """The same answer, asked of the same place, whatever else the headers say."""
        found = set()
        for name, value in (("X-Nothing", "x"), *HEADERS):
            self.upstream._answers = [MemoryResponse(200, JSON, [chat_body("hi")])]
            headers = {name: value, "X-Api-Key": KEY}
            reply = self.knock("POST", "/v1/chat/completions", headers)
            found.add((reply.status, reply.body, self.upstream.sent[-1].request.url))
        self.assertEqual(len(found), 1, found)
        self.assertEqual(len(self.upstream.sent), len(HEADERS) + 1)

    def test_the_table_is_whole(self) -> None:
        """What a route answers with the right key is not what it answers without."""
        self.assertGreater(len(ROUTES), 16)
        for method, path in ROUTES:
            if path not in PUBLIC:
                self.upstream._answers = [MemoryResponse(200, JSON, [chat_body("x")])] * 9
                reply = self.knock(method, path, {"X-Api-Key": KEY})
                self.assertNotEqual(reply.status, 401, (method, path))
