"""The bytes of a request's head: what is one, and what only looks like one."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from aiclient2api.web.wellformed import field_is_good, head_is_good, target_is_good


def headers(*lines: tuple[str, str]) -> Headers:
    """Return these headers."""
    made = Headers()
    for name, value in lines:
        made.addRawHeader(name.encode(), value.encode())
    return made


class TargetTests(SynchronousTestCase):
    """What a request may name."""

    def test_paths_and_urls_are_targets(self) -> None:
        """A path with anything printable in it, or a URL as proxies are sent."""
        for target in (
            b"/",
            b"/v1/models?key=a&b",
            b'/a{b}|\\^`"<>;%ff%00',
            b"//x//y",
            b"/../etc",
            b"http://h:1/p",
            b"HTTPS://[::1]:9?x",
            b"http://h",
            b"http://user:word@h/",
        ):
            self.assertTrue(target_is_good(b"GET", target), target)
        self.assertTrue(target_is_good(b"OPTIONS", b"*"))

    def test_nothing_else_is(self) -> None:
        """Authorities, stars, other schemes, fragments, control bytes, raw UTF-8."""
        for target in (
            b"",
            b"*",
            b"?x",
            b"v1/models",
            b"xhealth",
            b"h:443",
            b"ftp://h/p",
            b"http:///p",
            b"http://",
            b"http:/p",
            b"/p#x",
            b"http://h/#x",
            b"http://h#x",
            b"/p q",
            b"/p\x7f",
            b"/p\x80",
            b"/\xc3\xa9",
            b"/p\t",
            b"/p\n",
            b"/p\0",
        ):
            self.assertFalse(target_is_good(b"GET", target), target)
        for target in (b"/", b"h:443", b"http://h/"):
            self.assertFalse(target_is_good(b"CONNECT", target), target)


class FieldTests(SynchronousTestCase):
    """One line of a head, or of trailers."""

    def test_fields(self) -> None:
        """A token, a colon, and a value without control characters but tabs."""
        for line in (
            b"a:b",
            b"A-b_c.d~!#$%&'*+^`|9: v",
            b"a:",
            b"a: \t ",
            b"a: b\tc: d",
            b"a: \xff\x80",
            b"Content-Length: 0",
            b"content-length:\t12 ",
            b"Content-Length: 999999999999999999",
        ):
            self.assertTrue(field_is_good(line), line)

    def test_what_is_none(self) -> None:
        """White space before a colon, a fold, a bare line end, a number that is none."""
        for line in (
            b"a",
            b": b",
            b" a: b",
            b"\ta: b",
            b"a : b",
            b"a\t: b",
            b"a b: c",
            b"a\0: b",
            b"\xc3\xa9: b",
            b"a(b): c",
            b"a: b\rc",
            b"a: b\nc",
            b"a: b\0",
            b"a: \x01",
            b"a: \x0b",
            b"a: \x7f",
            b"Content-Length:",
            b"Content-Length: -1",
            b"Content-Length: +1",
            b"Content-Length: 1,1",
            b"Content-Length: 1 1",
            b"Content-Length: 0x1",
            b"Content-Length: 1_0",
            b"Content-Length: 1.0",
            "Content-Length: \N{ARABIC-INDIC DIGIT ONE}".encode(),
            b"content-length: 1000000000000000000",
            b"content-length: " + b"0" * 5000,
        ):
            self.assertFalse(field_is_good(line), line)


class HeadTests(SynchronousTestCase):
    """What all the fields of a head say together."""

    def test_heads(self) -> None:
        """One Host, of any name or none; one way to tell where the body ends."""
        one, zero = b"HTTP/1.1", b"HTTP/1.0"
        host = ("host", "h")
        for version, lines in (
            (one, (host,)),
            (one, (("host", ""),)),
            (one, (("host", "[::1]:80"),)),
            (one, (("host", "a_b.example:1"),)),
            (zero, ()),
            (zero, (host, ("content-length", "1"))),
            (one, (host, ("content-length", "1"))),
            (one, (host, ("transfer-encoding", "Chunked"))),
        ):
            self.assertTrue(head_is_good(version, headers(*lines)), lines)

    def test_what_is_none(self) -> None:
        """Two Hosts or none, one that is no name; two lengths; chunks from HTTP/1.0."""
        one, zero = b"HTTP/1.1", b"HTTP/1.0"
        host, chunked = ("host", "h"), ("transfer-encoding", "chunked")
        for version, lines in (
            (one, ()),
            (one, (host, host)),
            (zero, (host, host)),
            (one, (("host", "a b"),)),
            (one, (("host", "a/b"),)),
            (one, (("host", "u@h"),)),
            (one, (("host", "h?x"),)),
            (one, (host, chunked, chunked)),
            (one, (host, chunked, ("content-length", "1"))),
            (one, (host, ("transfer-encoding", "identity"))),
            (one, (host, ("transfer-encoding", ""))),
            (one, (host, ("transfer-encoding", "gzip, chunked"))),
            (zero, (chunked,)),
            (zero, (host, chunked)),
        ):
            self.assertFalse(head_is_good(version, headers(*lines)), (version, lines))
