"""The code grant: the door for the browser, what it lets in, and what is pasted."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.internet import reactor as _reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface.verify import verifyObject

from aiclient2api.errors import Fault, InvalidRequest, UpstreamError
from aiclient2api.interfaces import ILoginFlow
from aiclient2api.oauth.callback import HEAD_LIMIT, MOST, SECONDS, page
from aiclient2api.oauth.loopback import PATIENCE, CodeLogin, port_of, proven, with_query
from aiclient2api.oauth.pkce import Proof, challenge_of

STATE = "the-state"
REDIRECT = "kiro://kiro.kiroAgent/authenticate-success"


class Redeeming:
    """A vendor that notes what it is asked, and answers when it is told to."""

    whose = "The vendor's login"

    def __init__(self, answer: Deferred[Mapping[str, Any]] | None = None) -> None:
        given: Mapping[str, Any] = {"access_token": "t"}
        self.answer = succeed(given) if answer is None else answer
        self.redeemed: list[tuple[str, str, str]] = []

    def address(self, *, redirect: str, state: str, challenge: str) -> str:
        """Return an address with all of it."""
        return with_query(
            "https://v.example/auth?a=1", {"redirect_uri": redirect, **proven(state, challenge)}
        )

    def redeem(self, *, code: str, verifier: str, redirect: str) -> Deferred[Mapping[str, Any]]:
        """Note the code."""
        self.redeemed.append((code, verifier, redirect))
        return self.answer


class Socket(StringTransport):
    """A connection that knows how it ended."""

    aborted = False

    def abortConnection(self) -> None:
        """Note it."""
        self.aborted = True
        super().abortConnection()


class CodeLoginCase(SynchronousTestCase):
    """A login, and browsers that come to its door."""

    def begun(self, vendor: Redeeming | None = None, **more: Any) -> Deferred[Mapping[str, Any]]:
        """Start a login and wait for its end."""
        self.reactor = MemoryReactorClock()
        self.vendor = vendor or Redeeming()
        options = {"path": "/back", "port": 4321, **more}
        self.flow = CodeLogin(
            self.vendor,
            reactor=self.reactor,
            now=lambda: 1000.0,
            new_proof=lambda: Proof("the-verifier"),
            new_state=lambda: STATE,
            **options,
        )
        verifyObject(ILoginFlow, self.flow)
        self.successResultOf(self.flow.start())
        return self.flow.finish()

    def connect(self) -> tuple[Any, Socket]:
        """Have a browser connect."""
        factory = self.reactor.tcpServers[0][1]
        address = IPv4Address("TCP", "127.0.0.1", 1)
        protocol: Any = factory.buildProtocol(address)
        transport = Socket()
        protocol.makeConnection(transport)
        return protocol, transport

    def visit(self, target: str, *, method: str = "GET", host: str | None = None) -> str:
        """Have a browser ask; return what it gets."""
        # The double of a reactor names every port 0.
        host = f"127.0.0.1:{self.flow._door.port}" if host is None else host
        protocol, transport = self.connect()
        protocol.dataReceived(f"{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        if transport.disconnecting:
            protocol.connectionLost()
        return transport.value().decode()

    def over(self) -> None:
        """See that nothing of the login is left."""
        self.assertEqual(self.reactor.getDelayedCalls(), [])


class CodeLoginTests(CodeLoginCase):
    """One login in a browser."""

    def test_a_login(self) -> None:
        """The browser comes back with the code, which is redeemed with the proof."""
        finishing = self.begun()
        ((port, _, _, host),) = self.reactor.tcpServers
        self.assertEqual((port, host), (4321, "127.0.0.1"))
        asked = parse_qs(urlsplit(self.flow.url).query)
        redirect = asked["redirect_uri"][0]
        self.assertEqual(asked["state"], [STATE])
        self.assertEqual(asked["code_challenge"], [challenge_of("the-verifier")])
        self.assertEqual((asked["code_challenge_method"], asked["a"]), (["S256"], ["1"]))
        self.assertTrue(redirect.startswith("http://127.0.0.1:"))
        self.assertTrue(redirect.endswith("/back"))
        self.assertEqual(self.flow.expires, 1000.0 + PATIENCE)
        shown = self.visit(f"/back?code=c%2F1&state={STATE}")
        self.assertIn("HTTP/1.1 200 OK", shown)
        self.assertIn("Logged in", shown)
        self.assertEqual(self.successResultOf(finishing), {"access_token": "t"})
        self.assertEqual(self.vendor.redeemed, [("c/1", "the-verifier", redirect)])
        self.over()

    def test_the_page_waits_for_the_credential(self) -> None:
        """It says that all is well only once it is; and the door is closed by then."""
        redeeming: Deferred[Mapping[str, Any]] = Deferred()
        finishing = self.begun(Redeeming(redeeming))
        protocol, transport = self.connect()
        protocol.dataReceived(
            f"GET /back?code=c&state={STATE} HTTP/1.1\r\nHost: 127.0.0.1:{self.flow._door.port}"
            "\r\n\r\n".encode()
        )
        self.assertEqual(transport.value(), b"")
        redeeming.callback({})
        self.assertIn(b"Logged in", transport.value())
        self.assertTrue(transport.disconnecting)
        self.assertFalse(transport.aborted)
        self.successResultOf(finishing)

    def test_another_state_changes_nothing(self) -> None:
        """Whoever sends a code of their own is turned away, and the login goes on."""
        finishing = self.begun()
        for query in (
            "code=evil&state=other",
            "code=evil",
            f"code=evil&state={STATE}&state={STATE}",
            "code=evil&state=%C3%A4",
            "error=access_denied&state=other",
        ):
            shown = self.visit(f"/back?{query}")
            self.assertIn("HTTP/1.1 400", shown)
            self.assertNotIn("evil", shown)
        self.assertNoResult(finishing)
        self.visit(f"/back?code=good&state={STATE}")
        self.successResultOf(finishing)
        self.assertEqual([code for code, _, _ in self.vendor.redeemed], ["good"])

    def test_the_first_code_counts(self) -> None:
        """A second one is refused while the first is redeemed."""
        finishing = self.begun(Redeeming(Deferred()))
        self.visit(f"/back?code=one&state={STATE}")
        self.assertIn("HTTP/1.1 409", self.visit(f"/back?code=two&state={STATE}"))
        self.assertRaises(InvalidRequest, self.flow.paste, f"x?code=two&state={STATE}")
        self.assertEqual([code for code, _, _ in self.vendor.redeemed], ["one"])
        finishing.cancel()
        self.failureResultOf(finishing, CancelledError)
        self.over()

    def test_other_requests(self) -> None:
        """Other paths, methods and hosts get nothing, and the code in them is not used."""
        finishing = self.begun()
        good = f"/back?code=c&state={STATE}"
        for status, shown in (
            (404, self.visit("/")),
            (404, self.visit("/favicon.ico")),
            (404, self.visit(f"/back/more?code=c&state={STATE}")),
            (404, self.visit("http://127.0.0.1/back")),
            (405, self.visit(good, method="POST")),
            (403, self.visit(good, host="evil.example")),
            (403, self.visit(good, host="evil.example:80")),
            (403, self.visit(good, host="127.0.0.1:1")),
            (403, self.visit(good, host="")),
            (400, self.visit("/back")),
            (400, self.visit(f"/back?code=a&code=b&state={STATE}")),
            (400, self.visit(f"/back?code=&state={STATE}")),
        ):
            self.assertIn(f"HTTP/1.1 {status} ", shown)
            self.assertIn("no-store", shown)
        self.assertNoResult(finishing)
        self.assertEqual(self.vendor.redeemed, [])

    def test_localhost_is_a_name_for_it(self) -> None:
        """Some browsers are sent there."""
        finishing = self.begun()
        port = self.flow._door.port
        self.assertIn("200", self.visit(f"/back?code=c&state={STATE}", host=f"LocalHost:{port}"))
        self.successResultOf(finishing)

    def test_the_vendor_refuses(self) -> None:
        """The person said no: both the page and the error say so, and obey nothing of it."""
        finishing = self.begun()
        told = "%3Cscript%3Ealert(1)%3C%2Fscript%3E%1B%5B2J"
        shown = self.visit(f"/back?error=access_denied&error_description={told}&state={STATE}")
        self.assertIn("HTTP/1.1 400", shown)
        self.assertIn("&lt;script&gt;alert(1)&lt;/script&gt;", shown)
        self.assertNotIn("<script>", shown)
        error = self.failureResultOf(finishing, UpstreamError).value
        self.assertIn("<script>", error.message)
        self.assertNotIn("\x1b", error.message)
        self.assertEqual(error.code, "access_denied")
        self.over()

    def test_the_code_is_refused(self) -> None:
        """The page shows why, escaped."""
        redeeming: Deferred[Mapping[str, Any]] = Deferred()
        finishing = self.begun(Redeeming(redeeming))
        protocol, transport = self.connect()
        protocol.dataReceived(
            f"GET /back?code=c&state={STATE} HTTP/1.1\r\nHost: localhost:{self.flow._door.port}"
            "\r\n\r\n".encode()
        )
        redeeming.errback(UpstreamError("<b>no</b>", fault=Fault.CREDENTIAL, status=401))
        self.failureResultOf(finishing, UpstreamError)
        self.assertIn(b"&lt;b&gt;no&lt;/b&gt;", transport.value())
        self.over()

    def test_nobody_logs_in(self) -> None:
        """After ten minutes it is over."""
        finishing = self.begun()
        self.reactor.advance(PATIENCE - 1)
        self.assertNoResult(finishing)
        self.reactor.advance(1)
        error = self.failureResultOf(finishing, UpstreamError).value
        self.assertIs(error.fault, Fault.TIMEOUT)
        self.assertIn("10 minutes", error.message)
        self.over()
        self.assertRaises(InvalidRequest, self.flow.paste, f"x?code=c&state={STATE}")

    def test_giving_up(self) -> None:
        """Nothing listens, nothing waits, and who is connected is hung up on."""
        finishing = self.begun()
        _, transport = self.connect()
        finishing.cancel()
        self.failureResultOf(finishing, CancelledError)
        self.assertTrue(transport.aborted)
        self.over()

    def test_a_browser_that_says_nothing(self) -> None:
        """It is hung up on after a while; so are more than a few at once."""
        self.begun()
        _, idle = self.connect()
        self.reactor.advance(SECONDS)
        self.assertTrue(idle.aborted)
        sockets = [self.connect()[1] for _ in range(MOST + 1)]
        self.assertTrue(sockets[-1].aborted)

    def test_a_request_is_bounded(self) -> None:
        """One that does not end is not read to its end."""
        self.begun()
        protocol, transport = self.connect()
        protocol.dataReceived(b"GET /back?" + b"x" * HEAD_LIMIT)
        self.assertIn(b"HTTP/1.1 431", transport.value())
        protocol, transport = self.connect()
        protocol.dataReceived(b"\x16\x03\x01\r\n\r\n")
        self.assertIn(b"HTTP/1.1 400", transport.value())

    def test_a_request_in_pieces(self) -> None:
        """However it arrives, it is one."""
        finishing = self.begun()
        protocol, transport = self.connect()
        host = f"127.0.0.1:{self.flow._door.port}"
        for byte in f"GET /back?code=c&state={STATE} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode():
            protocol.dataReceived(bytes([byte]))
        self.assertIn(b"200 OK", transport.value())
        self.successResultOf(finishing)

    def test_it_must_be_started(self) -> None:
        """Before that there is nothing to wait for."""
        flow = CodeLogin(Redeeming(), reactor=MemoryReactorClock(), path="/back")
        self.failureResultOf(flow.finish(), InvalidRequest)

    def test_pages_are_escaped(self) -> None:
        """Title and text alike."""
        self.assertNotIn("<i>", page("<i>", "<i>'\""))


class PasteTests(CodeLoginCase):
    """What a person copies out of the address bar."""

    def test_the_address_of_the_redirect(self) -> None:
        """From a browser on another machine, with blanks around it."""
        finishing = self.begun()
        self.flow.paste(f" http://127.0.0.1:9/back?state={STATE}&code=c&scope=a%20b \n")
        self.successResultOf(finishing)
        self.assertEqual(self.vendor.redeemed[0][0], "c")
        self.over()

    def test_an_address_that_no_browser_opens(self) -> None:
        """``kiro://`` ends up nowhere; nobody listens for it."""
        finishing = self.begun(port=None, redirect=REDIRECT)
        self.assertEqual(self.reactor.tcpServers, [])
        self.assertIn("kiro%3A%2F%2Fkiro.kiroAgent%2Fauthenticate-success", self.flow.url)
        self.flow.paste(f"{REDIRECT}?code=c&state={STATE}")
        self.successResultOf(finishing)
        self.assertEqual(self.vendor.redeemed, [("c", "the-verifier", REDIRECT)])

    def test_before_it_is_waited_for(self) -> None:
        """What was pasted early is not lost."""
        self.begun().addErrback(lambda _: None).cancel()
        flow = CodeLogin(
            self.vendor,
            reactor=self.reactor,
            path="/b",
            port=None,
            redirect="x:y",
            new_state=lambda: STATE,
        )
        self.successResultOf(flow.start())
        flow.paste(f"x:y?code=early&state={STATE}")
        self.successResultOf(flow.finish())

    def test_what_is_no_such_address(self) -> None:
        """Each is refused with a sentence that says what is missing, and shows no code."""
        finishing = self.begun(port=None, redirect=REDIRECT)
        for text, said in (
            ("hello", "no address"),
            ("https://v.example/auth", REDIRECT),
            (self.flow.url, "no code"),
            ("x?code=secret-code&state=other", "another login"),
            ("x?code=secret-code", "another login"),
            ("x?code=secret\x00code", "no address"),
            (f"x?code=secret-code&state={STATE}{'x' * 20_000}", "too long"),
            ("x?" + "&".join(f"a{n}=1" for n in range(200)), "cannot be read"),
        ):
            with self.assertRaises(InvalidRequest) as caught:
                self.flow.paste(text)
            self.assertIn(said, caught.exception.message)
            self.assertNotIn("secret", caught.exception.message)
        self.assertNoResult(finishing)

    def test_a_refusal_is_pasted(self) -> None:
        """It ends the login, as it would in the browser."""
        finishing = self.begun(port=None, redirect=REDIRECT)
        self.flow.paste(f"{REDIRECT}?error=access_denied&state={STATE}")
        self.failureResultOf(finishing, UpstreamError)


class PortTests(SynchronousTestCase):
    """``--port``."""

    def test_numbers(self) -> None:
        """A port, or none; anything else is refused."""
        self.assertEqual(port_of({"port": "8085"}), 8085)
        self.assertEqual((port_of({}), port_of({}, None)), (0, None))
        for text in ("x", "-1", "65536", "", "\u0661"):
            self.assertRaises(InvalidRequest, port_of, {"port": text})


class RealDoorTests(TestCase):
    """What only sockets show."""

    timeout = 30

    def flow(self, **more: Any) -> CodeLogin:
        """Return a login at a real door."""
        reactor: Any = _reactor
        return CodeLogin(
            Redeeming(), reactor=reactor, path="/back", new_state=lambda: STATE, **more
        )

    async def test_a_browser(self) -> None:
        """A free port on 127.0.0.1 is answered, once, and closed."""
        flow = self.flow()
        await flow.start()
        port = flow._door.port
        finishing = flow.finish()

        def ask() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 10) as browser:
                browser.sendall(
                    f"GET /back?code=c&state={STATE} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                    "Connection: keep-alive\r\n\r\n".encode()
                )
                got = b""
                while piece := browser.recv(65536):
                    got += piece
                return got

        shown = await deferToThread(ask)
        self.assertIn(b"Logged in", shown)
        self.assertEqual(await finishing, {"access_token": "t"})
        with socket.socket() as later:
            self.assertNotEqual(later.connect_ex(("127.0.0.1", port)), 0)

    async def test_a_port_that_is_taken(self) -> None:
        """It is said politely, with what to do."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with self.assertRaises(InvalidRequest) as caught:
                await self.flow(port=port).start()
        self.assertIn(f"Port {port} of 127.0.0.1 is in use", caught.exception.message)
        self.assertIn("--port", caught.exception.message)
