"""Which proxy is used, and what is said to it, at every split of its answers."""

from __future__ import annotations

import base64
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.upstream.proxy import Proxy, ProxySettings, check_proxy_url
from aiclient2api.upstream.tunnels import (
    HEAD_LIMIT,
    Handshake,
    HttpConnect,
    ProxyRefused,
    Socks5,
)


def chosen(environ: dict[str, str], host: str = "api.example", port: int = 443) -> str | None:
    """Return the proxy that *environ* asks for, for a target over TLS."""
    scheme = "http" if port == 80 else "https"
    proxy = ProxySettings.from_environ(environ).proxy_for(scheme=scheme, host=host, port=port)
    return None if proxy is None else proxy.origin


class ProxyTests(SynchronousTestCase):
    """Proxy URLs as people write them."""

    def test_ports(self) -> None:
        """A port that is left out is the scheme's usual one."""
        for url, origin in (
            ("http://p", "http://p:80"),
            ("https://p/", "https://p:443"),
            ("socks5://p", "socks5://p:1080"),
            ("http://p:3128", "http://p:3128"),
            ("HTTP://P:3128/", "http://p:3128"),
            ("http://[::1]:3128", "http://[::1]:3128"),
        ):
            self.assertEqual(Proxy.from_url(url).origin, origin)

    def test_bare(self) -> None:
        """``host:port`` is an HTTP proxy, as it is for curl."""
        self.assertEqual(Proxy.from_url("p.example:8080").origin, "http://p.example:8080")

    def test_socks5h(self) -> None:
        """Both spellings of SOCKS5 are one: names are always the proxy's to resolve."""
        self.assertEqual(Proxy.from_url("socks5h://p:1"), Proxy.from_url("socks5://p:1"))

    def test_credentials(self) -> None:
        """User name and password are percent-decoded, and shown nowhere."""
        proxy = Proxy.from_url("http://us%40er:p%3Aw@p:1")
        self.assertEqual(proxy.credentials, (b"us@er", b"p:w"))
        self.assertNotIn("p:w", repr(proxy) + proxy.origin)
        self.assertNotIn("us@er", repr(proxy) + proxy.origin)
        self.assertIsNone(Proxy.from_url("http://p:1").credentials)

    def test_check(self) -> None:
        """What cannot be used is said in a sentence that shows how to write it."""
        for url in (
            "ftp://p:1",
            "socks4://p:1",
            "http://",
            "http://:80",
            "http://p:0",
            "http://p:99999",
            "http://p:x",
            "http://p/path",
            "http://p?x=1",
            "http://[::1",
            "http://a b:1",
            "http://p\r\nX: y",
            "",
        ):
            fault = check_proxy_url(url)
            assert fault is not None, url
            self.assertIn("socks5://", fault)

    def test_check_credentials(self) -> None:
        """Credentials the proxy's protocol cannot carry are refused, unshown."""
        for url in ("socks5://user@p:1", f"socks5://u:{'x' * 256}@p:1", "http://a%3Ab:hush@p:1"):
            fault = check_proxy_url(url)
            assert fault is not None, url
            self.assertNotIn("hush", fault)

    def test_check_good(self) -> None:
        """What can be used is passed, ``direct`` too."""
        for url in ("direct", "http://u:p@p:1", "https://p", "socks5://p", "socks5h://u:p@p"):
            self.assertIsNone(check_proxy_url(url))


class ProxySettingsTests(SynchronousTestCase):
    """The proxy variables of the environment."""

    def test_none(self) -> None:
        """Nothing said, nothing used."""
        self.assertIsNone(chosen({}))

    def test_by_scheme(self) -> None:
        """Each target scheme has its variable; ALL_PROXY serves the rest."""
        environ = {"http_proxy": "http://plain:1", "ALL_PROXY": "socks5://all:2"}
        self.assertEqual(chosen(environ, port=80), "http://plain:1")
        self.assertEqual(chosen(environ), "socks5://all:2")
        self.assertEqual(chosen({"HTTPS_PROXY": "http://tls:3"}), "http://tls:3")

    def test_lower_case_wins(self) -> None:
        """Lower case wins over upper case, for each of the four."""
        self.assertEqual(chosen({"https_proxy": "a:1", "HTTPS_PROXY": "b:1"}), "http://a:1")
        self.assertEqual(chosen({"http_proxy": "a:1", "HTTP_PROXY": "b:1"}, port=80), "http://a:1")
        self.assertEqual(chosen({"all_proxy": "a:1", "ALL_PROXY": "b:1"}), "http://a:1")
        environ = {"HTTPS_PROXY": "a:1", "no_proxy": "other", "NO_PROXY": "*"}
        self.assertEqual(chosen(environ), "http://a:1")

    def test_set_to_nothing(self) -> None:
        """A variable set to nothing switches the proxy off."""
        self.assertIsNone(chosen({"https_proxy": "", "HTTPS_PROXY": "b:1", "ALL_PROXY": "c:1"}))

    def test_cgi(self) -> None:
        """In a CGI process, upper-case HTTP_PROXY is a client's header: ignored."""
        environ = {"HTTP_PROXY": "evil:1", "REQUEST_METHOD": "POST"}
        self.assertIsNone(chosen(environ, port=80))
        self.assertEqual(chosen({**environ, "http_proxy": "a:1"}, port=80), "http://a:1")
        self.assertEqual(chosen({**environ, "HTTPS_PROXY": "a:1"}), "http://a:1")

    def assert_direct(self, listed: str, host: str, port: int = 443) -> None:
        """Check that NO_PROXY covers a target."""
        environ = {"HTTPS_PROXY": "p:1", "HTTP_PROXY": "p:1", "NO_PROXY": listed}
        self.assertIsNone(chosen(environ, host, port), (listed, host, port))

    def assert_proxied(self, listed: str, host: str, port: int = 443) -> None:
        """Check that NO_PROXY does not cover a target."""
        environ = {"HTTPS_PROXY": "p:1", "HTTP_PROXY": "p:1", "NO_PROXY": listed}
        self.assertIsNotNone(chosen(environ, host, port), (listed, host, port))

    def test_domains(self) -> None:
        """A domain covers itself and what is below, with or without its dot."""
        for listed in ("api.example", ".api.example", "*.api.example", "x, API.example ,y"):
            self.assert_direct(listed, "api.example")
            self.assert_direct(listed, "eu.api.example")
            self.assert_direct(listed, "EU.api.example.")
            self.assert_proxied(listed, "myapi.example")
            self.assert_proxied(listed, "example")

    def test_ports(self) -> None:
        """An entry with a port covers that port only."""
        self.assert_direct("api.example:443", "api.example")
        self.assert_proxied("api.example:8443", "api.example")
        self.assert_direct("127.0.0.1:80", "127.0.0.1", 80)
        self.assert_proxied("127.0.0.1:81", "127.0.0.1", 80)
        self.assert_direct("[::1]:80", "::1", 80)
        self.assert_proxied("[::1]:81", "::1", 80)

    def test_addresses(self) -> None:
        """Addresses and networks cover addresses, never names."""
        self.assert_direct("10.0.0.0/8", "10.1.2.3")
        self.assert_proxied("10.0.0.0/8", "11.1.2.3")
        self.assert_proxied("10.0.0.0/8", "api.example")
        self.assert_direct("127.0.0.1", "127.0.0.1")
        self.assert_direct("::1", "::1")
        self.assert_direct("[::1]", "::1")
        self.assert_direct("fd00::/8", "fd00::7")
        self.assert_proxied("fd00::/8", "10.0.0.1")
        self.assert_proxied("10.0.0.0/99", "10.0.0.0")

    def test_everything(self) -> None:
        """``*`` covers everything; nothing covers nothing."""
        self.assert_direct("*", "api.example")
        self.assert_direct("a,*", "::1")
        for listed in ("", ",", " , ", "."):
            self.assert_proxied(listed, "api.example")

    def test_loopback(self) -> None:
        """Loopback has no privilege: only NO_PROXY exempts it."""
        self.assert_proxied("", "127.0.0.1", 80)
        self.assert_proxied("", "localhost", 80)

    def test_unusable(self) -> None:
        """A bad variable is an error that names it, if it is the one that rules."""
        environ = {"ALL_PROXY": "socks4://u:hush@p:1", "https_proxy": "http://a:1"}
        self.assertEqual(chosen(environ), "http://a:1")
        fault = str(self.assertRaises(ValueError, chosen, environ, "api.example", 80))
        self.assertIn("ALL_PROXY", fault)
        self.assertNotIn("hush", fault)
        self.assertEqual(ProxySettings.from_environ(environ).faults(), (fault,))
        self.assertEqual(ProxySettings.from_environ({"http_proxy": ""}).faults(), ())


class Talk:
    """One handshake, fed in pieces: what it sent, in order, and how it ended."""

    def __init__(self, handshake: Handshake, answers: list[bytes], cut: int) -> None:
        """Answer each message once it is out; every answer is cut in two at *cut*."""
        self.sent = [handshake.greeting()]
        self.early = False
        for index, answer in enumerate(answers):
            for piece in (answer[:cut], answer[cut:]):
                if not piece:
                    continue
                reply = handshake.feed(piece)
                if reply:
                    self.sent.append(reply)
            if handshake.done and index < len(answers) - 1:
                self.early = True


class HandshakeTests(SynchronousTestCase):
    """Promises common to both handshakes."""

    def check(self, make: Callable[[], Handshake], answers: list[bytes], sent: list[bytes]) -> None:
        """Check one handshake at every split, byte by byte, and with the target's bytes."""
        for cut in range(max(map(len, answers)) + 1):
            handshake = make()
            talk = Talk(handshake, answers, cut)
            self.assertTrue(handshake.done)
            self.assertFalse(talk.early)
            self.assertEqual((talk.sent, handshake.rest), (sent, b""))
        for rest in (b"\x00", b"HTTP/1.1 200 OK\r\n\r\nbody"):
            handshake = make()
            Talk(handshake, [*answers[:-1], answers[-1] + rest], cut=10_000)
            self.assertEqual((handshake.done, handshake.rest), (True, rest))
        handshake = make()
        out = [handshake.greeting()]
        for answer in answers:
            for byte in answer:
                self.assertFalse(handshake.done)
                out.append(handshake.feed(bytes([byte])))
        self.assertTrue(handshake.done)
        self.assertEqual(b"".join(out), b"".join(sent))

    def check_refused(self, make: Callable[[], Handshake], answers: list[bytes], word: str) -> None:
        """Check that a handshake is refused, with that word in the reason, at every split."""
        for cut in range(max(map(len, answers)) + 1):
            refusal = self.assertRaises(ProxyRefused, Talk, make(), answers, cut)
            self.assertIn(word, str(refusal))
            self.assertNotIn("hush", str(refusal))

    # CONNECT

    def test_connect(self) -> None:
        """CONNECT names the target; the tunnel begins after the blank line."""
        self.check(
            lambda: HttpConnect(host="api.example", port=443),
            [b"HTTP/1.1 200 Connection established\r\nVia: p\r\n\r\n"],
            [b"CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\n\r\n"],
        )

    def test_connect_variants(self) -> None:
        """Bare line feeds, no reason, HTTP/1.0, interim answers and lengths are taken."""
        greeting = b"CONNECT [::1]:80 HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"
        for answer in (
            b"HTTP/1.1 200\r\n\r\n",
            b"HTTP/1.0 200 OK\n\n",
            b"HTTP/1.1 299 Odd\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ):
            self.check(lambda: HttpConnect(host="::1", port=80), [answer], [greeting])

    def test_connect_credentials(self) -> None:
        """Credentials go as Basic, whatever bytes they are."""
        greeting = HttpConnect(host="h", port=1, credentials=("ü".encode(), b"hush:1")).greeting()
        token = base64.b64encode("ü:hush:1".encode())
        self.assertIn(b"\r\nProxy-Authorization: Basic " + token + b"\r\n\r\n", greeting)

    def test_connect_refused(self) -> None:
        """A refusal tells its status, and what to do about a missing password."""

        def make() -> Handshake:
            return HttpConnect(host="h", port=1)

        def known() -> Handshake:
            return HttpConnect(host="h", port=1, credentials=(b"u", b"hush"))

        self.check_refused(make, [b"HTTP/1.1 407 Auth\r\n\r\n"], "put them into its URL")
        self.check_refused(known, [b"HTTP/1.1 407 Auth\r\n\r\n"], "refused the user name")
        self.check_refused(make, [b"HTTP/1.1 403 No\r\n\r\nhush"], "status 403")
        self.check_refused(make, [b"HTTP/1.1 302 Go\r\nLocation: hush\r\n\r\n"], "status 302")
        self.check_refused(make, [b"SSH-2.0-hush\r\n\r\n"], "as an HTTP proxy does")

    def test_connect_bounded(self) -> None:
        """A proxy that never ends its head is not listened to for ever."""
        handshake = HttpConnect(host="h", port=1)
        handshake.feed(b"HTTP/1.1 200 OK\r\n" + b"a" * (HEAD_LIMIT - 17))
        self.assertRaises(ProxyRefused, handshake.feed, b"a")
        whole = b"HTTP/1.1 200 OK\r\nA: " + b"a" * HEAD_LIMIT + b"\r\n\r\n"
        self.assertRaises(ProxyRefused, HttpConnect(host="h", port=1).feed, whole)
        handshake = HttpConnect(host="h", port=1)
        handshake.feed(b"HTTP/1.1 200 OK\r\n\r\n" + b"a" * 2 * HEAD_LIMIT)
        self.assertEqual(len(handshake.rest), 2 * HEAD_LIMIT)

    # SOCKS5

    def test_socks_name(self) -> None:
        """A name goes to the proxy as it is; every form of its answer is understood."""
        request = b"\x05\x01\x00\x03\x0bapi.example\x01\xbb"
        for bound in (b"\x01" + b"\x7f" * 4, b"\x04" + b"\x7f" * 16, b"\x03\x05proxy", b"\x03\x00"):
            self.check(
                lambda: Socks5(host="api.example", port=443),
                [b"\x05\x00", b"\x05\x00\x00" + bound + b"\x10\x20"],
                [b"\x05\x01\x00", request],
            )

    def test_socks_addresses(self) -> None:
        """Address literals go as addresses."""
        answers = [b"\x05\x00", b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"]
        for host, packed in (
            ("10.0.0.1", b"\x01\x0a\x00\x00\x01"),
            ("::1", b"\x04" + b"\x00" * 15 + b"\x01"),
        ):
            request = b"\x05\x01\x00" + packed + b"\x00\x50"
            self.check(
                lambda host=host: Socks5(host=host, port=80),  # type: ignore[misc]
                answers,
                [b"\x05\x01\x00", request],
            )

    def test_socks_login(self) -> None:
        """With credentials, the proxy may choose to ask for them or not."""

        def make() -> Handshake:
            return Socks5(host="h", port=1, credentials=(b"user", b"hush"))

        offer, request = b"\x05\x02\x00\x02", b"\x05\x01\x00\x03\x01h\x00\x01"
        bound = b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"
        self.check(
            make,
            [b"\x05\x02", b"\x01\x00", bound],
            [offer, b"\x01\x04user\x04hush", request],
        )
        self.check(make, [b"\x05\x00", bound], [offer, request])

    def test_socks_refused(self) -> None:
        """Every refusal is told in words."""

        def make() -> Handshake:
            return Socks5(host="h", port=1)

        def known() -> Handshake:
            return Socks5(host="h", port=1, credentials=(b"user", b"hush"))

        self.check_refused(make, [b"HTTP/1.1 400 Bad\r\n\r\n"], "does not speak SOCKS5")
        self.check_refused(make, [b"\x05\xff"], "put them into its URL")
        self.check_refused(make, [b"\x05\x02"], "put them into its URL")
        self.check_refused(known, [b"\x05\xff"], "no way to log in")
        self.check_refused(known, [b"\x05\x02", b"\x01\x01"], "refused the user name")
        for code, word in ((2, "rules"), (4, "unknown"), (5, "refused"), (9, "error 9")):
            self.check_refused(make, [b"\x05\x00", bytes([5, code])], word)
        self.check_refused(make, [b"\x05\x00", b"\x05\x00\x00\x09"], "no known type")

    def test_socks_long_name(self) -> None:
        """A name SOCKS5 cannot carry is refused before anything is sent."""
        self.assertRaises(ProxyRefused, Socks5, host="x" * 256, port=1)
