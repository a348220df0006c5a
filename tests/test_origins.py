"""Which web pages may call a gateway that asks for no key."""

from __future__ import annotations

from twisted.internet.address import UNIXAddress
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.testing import MemoryResponse, chat_body
from aiclient2api.web.origins import refusal
from tests.web_fixture import GatewayTestCase

BODY = b'{"model":"m","messages":[{"role":"user","content":"Hi."}]}'
CHAT = "/v1/chat/completions"
EVIL = "https://evil.example"


def code(
    origins: tuple[str, ...] = (), hosts: tuple[str, ...] = (), listed: tuple[str, ...] = ()
) -> str | None:
    """Return the code of a refusal."""
    refused = refusal(origins=origins, hosts=hosts, listed=listed)
    return None if refused is None else refused.code


class RefusalTests(SynchronousTestCase):
    """`refusal`."""

    def test_programs(self) -> None:
        """They send no origin, and call by whatever is this machine's for certain."""
        for host in (
            "127.0.0.1:3000",
            "127.0.0.1",
            "localhost",
            "LOCALHOST:1",
            "a.b.localhost:3000",
            "localhost.",
            "[::1]:3000",
            "[::ffff:127.0.0.1]",
            "192.168.1.7:3000",
        ):
            self.assertIsNone(code(hosts=(host,)), host)
        self.assertIsNone(code())

    def test_names_that_somebody_else_owns(self) -> None:
        """A page's own name may lead here: its requests are of one origin with us, then."""
        for host in (
            "evil.example:3000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example#localhost",
            "evil@localhost",
            "localhost evil.example",
            "127.0.0.1\nevil",
            "[evil]",
            "0x7f.evil.example",
            "",
        ):
            self.assertEqual(code(hosts=(host,)), "host_not_allowed", host)
        self.assertEqual(code(hosts=("localhost", "evil.example")), "host_not_allowed")

    def test_pages(self) -> None:
        """Only those that are listed, to the letter, whatever they call us."""
        for origin in (EVIL, "null", "", "http://localhost:3000", "https://a.example:1"):
            found = code((origin,), ("localhost:3000",), ("https://a.example",))
            self.assertEqual(found, "origin_not_allowed", origin)
        listed = ("https://a.example", "http://gateway.lan:3000")
        self.assertIsNone(code(("https://a.example",), ("localhost:3000",), listed))
        self.assertEqual(code(("https://a.example", EVIL), (), listed), "origin_not_allowed")

    def test_a_name_of_ones_own(self) -> None:
        """Its origin in ``cors_origins`` is enough to call by it."""
        listed = ("http://gateway.lan:3000",)
        self.assertIsNone(code(hosts=("Gateway.lan:3000",), listed=listed))
        self.assertEqual(code(hosts=("gateway.lan:1",), listed=listed), "host_not_allowed")

    def test_everybody(self) -> None:
        """With ``*`` it was said that every page may."""
        self.assertIsNone(code((EVIL,), ("evil.example",), ("*",)))


class OpenGatewayTests(GatewayTestCase):
    """The whole gateway."""

    def opened(self, **config: object) -> None:
        """Build one that asks nobody for a key."""
        answers = [
            MemoryResponse(200, ((b"content-type", b"application/json"),), [chat_body("Hi!")])
            for _ in range(3)
        ]
        self.build(answers, **{"required_api_key": "", **config})

    def test_no_page_spends_anything(self) -> None:
        """A form of ``text/plain`` needs no preflight; its body is not even read."""
        self.opened()
        for headers in (
            {"Origin": EVIL, "Content-Type": "text/plain"},
            {"Origin": "null"},
            {"Host": "evil.example:3000"},
            {"Host": "evil.example:3000", "Origin": "http://evil.example:3000"},
        ):
            reply = self.ask("POST", CHAT, BODY, key=None, headers=headers)
            self.assertEqual(reply.status, 403, headers)
            self.assertIn("required_api_key", reply.json()["error"]["message"])
            self.assertNotIn("access-control-allow-origin", reply.headers)
            self.send("POST", CHAT, None, key=None, headers={**headers, "Content-Length": "9"})
            self.assertEqual(self.reply().status, 403, headers)
        self.assertEqual(self.upstream.sent, [])

    def test_no_page_reads_anything(self) -> None:
        """Neither lists nor how accounts fare; of those open to all, no more than anybody."""
        self.opened()
        rebound = {"Host": "evil.example:3000"}
        for target in ("/v1/models", "/v1beta/models", "/provider_health", "/v1/responses/x"):
            self.assertEqual(self.ask("GET", target, key=None, headers=rebound).status, 403)
        told = self.ask("GET", "/health", key=None, headers=rebound).json()
        self.assertIsNone(told["provider"])
        self.assertEqual(
            list(self.ask("GET", "/ready", key=None, headers=rebound).json()), ["ready"]
        )

    def test_programs_and_listed_pages_call(self) -> None:
        """As before."""
        self.opened(cors_origins=["https://a.example"])
        self.assertEqual(self.ask("POST", CHAT, BODY, key=None).status, 200)
        reply = self.ask("POST", CHAT, BODY, key=None, headers={"Origin": "https://a.example"})
        self.assertEqual(reply.status, 200)
        self.assertEqual(reply.headers["access-control-allow-origin"], "https://a.example")

    def test_a_socket_has_no_name(self) -> None:
        """No browser opens a Unix socket, and clients of one send any name."""
        self.opened()
        headers = {"Host": "gateway"}
        self.assertEqual(self.ask("POST", CHAT, BODY, key=None, headers=headers).status, 403)
        self.peer = UNIXAddress("/run/gateway")
        self.assertEqual(self.ask("POST", CHAT, BODY, key=None, headers=headers).status, 200)

    def test_with_a_key_names_and_origins_say_nothing(self) -> None:
        """Whoever has it is let in, and whoever has none is not, by whatever name."""
        self.build([MemoryResponse(200, (), [chat_body("Hi!")]) for _ in range(2)])
        for headers in ({"Host": "gateway.lan"}, {"Host": "localhost", "Origin": EVIL}):
            self.assertEqual(self.ask("POST", CHAT, BODY, headers=headers).status, 200)
            self.assertEqual(self.ask("POST", CHAT, BODY, key=None, headers=headers).status, 401)
