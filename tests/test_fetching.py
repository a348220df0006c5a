"""Images by URL: what is fetched and what is not, how much of it, and how many at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectionLost
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api import __version__
from aiclient2api.conversation.request import Inline
from aiclient2api.upstream.fetching import AT_A_TIME, IN_ALL, MOST, kind_of
from aiclient2api.upstream.public_road import ATTEMPT, HEAD_LIMIT
from tests.fetching_fixture import PLAIN, PNG, PUBLIC, FetchCase, World, inline, reply

if TYPE_CHECKING:
    from aiclient2api.conversions import MediaFetcher


class FetchTests(FetchCase):
    """What is fetched."""

    def test_an_image(self) -> None:
        """The bytes come as base64, with their type; the connection is closed."""
        world = World()
        fetching = world.fetcher.fetch(PLAIN)
        self.assertEqual(world.dialled, [(PUBLIC, 80)])
        world.answer()
        self.assertEqual(self.successResultOf(fetching), inline())
        self.assertQuiet(world)

    def test_what_is_sent(self) -> None:
        """A bare GET: nothing of the caller's, no cookie, no credentials, no gzip."""
        world = World()
        world.fetcher.fetch(PLAIN)
        lines = world.accept().value().decode().split("\r\n")
        self.assertEqual(lines[0], "GET /cat.png?sig=hush HTTP/1.1")
        headers = dict(line.split(": ", 1) for line in lines[1:-2])
        self.assertEqual(
            headers,
            {
                "Host": "a.example",
                "Connection": "close",
                "User-Agent": f"aiclient2api/{__version__}",
                "Accept": "image/png,image/jpeg,image/webp,image/gif,image/*;q=0.5,"
                "application/pdf;q=0.5",
            },
        )

    def test_however_it_is_cut(self) -> None:
        """Chunked, in single bytes, or ended by the connection: the same bytes."""
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunked += b"".join(b"1\r\n%c\r\n" % byte for byte in PNG) + b"0\r\n\r\n"
        for text in (reply(), chunked, b"HTTP/1.0 200 OK\r\n\r\n" + PNG):
            for size in (1, 7, len(text)):
                world = World()
                fetching = world.fetcher.fetch(PLAIN)
                wire = world.accept()
                for at in range(0, len(text), size):
                    wire.send(text[at : at + size])
                if b"1.0" in text:
                    self.assertNoResult(fetching)
                    wire.close()
                self.assertEqual(self.successResultOf(fetching), inline())

    def test_it_serves_conversions(self) -> None:
        """It is what a conversion wants for its media."""
        fetcher: MediaFetcher = World().fetcher
        found: Any = fetcher.fetch_all([])
        self.assertEqual(self.successResultOf(found), {})

    def test_another_address_is_tried(self) -> None:
        """If one of a host's addresses refuses or is mute, the next one serves."""
        told = ["2606:4700:4700::1111", "1.1.1.1", PUBLIC]
        world = World({"a.example": [told]})
        fetching = world.fetcher.fetch(PLAIN)
        world.refuse()
        self.assertEqual(world.reactor.tcpClients[-1][3], ATTEMPT)
        world.refuse()
        self.assertEqual(world.dialled, [(address, 80) for address in told])
        world.answer()
        self.assertEqual(self.successResultOf(fetching), inline())
        world = World({"a.example": [told[1:]]})
        fetching = world.fetcher.fetch(PLAIN)
        world.refuse()
        world.refuse()
        self.assertRefused(fetching, "http://a.example:80: it refused")


class AnswerTests(FetchCase):
    """What is not taken for an image."""

    def refusal(self, text: bytes, *words: str, close: bool = False, **changes: Any) -> None:
        """Check that an answer is refused, and its connection closed."""
        world = World(**changes)
        fetching = world.fetcher.fetch(PLAIN)
        wire = world.accept()
        wire.send(text)
        if close:
            wire.close()
        self.assertRefused(fetching, "http://a.example/cat.png could not be fetched", *words)
        self.assertQuiet(world)

    def test_status(self) -> None:
        """Nothing but 200 brings an image."""
        for status in (b"404 Not Found", b"206 Partial", b"304 Not Modified", b"500 Oh"):
            self.refusal(reply(status=status), f"status {status[:3].decode()}")
        self.refusal(b"HTTP/1.1 204 No Content\r\n\r\n", "status 204")

    def test_type(self) -> None:
        """A page, or something that only says it is an image."""
        for told in (b"text/html", b"image/png", b"image/jpeg", b"application/pdf", b"image/", b""):
            line = b"Content-Type: " + told
            self.refusal(reply(b"<html>", line), "neither an image of a known kind nor a PDF")
        self.refusal(reply(b"", b"Content-Type: image/avif"), "neither an image")

    def test_packed(self) -> None:
        """What was packed without being asked."""
        self.refusal(reply(PNG, b"Content-Encoding: gzip"), "packed")

    def test_too_large_as_told(self) -> None:
        """A Content-Length over the limit ends it before the body."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n"
        self.refusal(head, "over 1000 bytes (fetch_images.bytes)")

    def test_too_large_as_counted(self) -> None:
        """Without a length bytes are counted while they arrive."""
        plain = b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunk = b"1f5\r\n" + b"x" * 501 + b"\r\n"
        for text in (
            plain,
            chunked + 2 * chunk,
            chunked + 5 * chunk,
            chunked + b"ffff\r\n" + plain * 2,
        ):
            self.refusal(text, "over 1000 bytes")

    def test_as_large_as_it_may_be(self) -> None:
        """The limit itself is no more than the limit."""
        world = World()
        body = PNG.ljust(1000)
        for text in (reply(body), b"HTTP/1.1 200 OK\r\n\r\n" + body):
            fetching = world.fetcher.fetch(PLAIN)
            wire = world.accept()
            wire.send(text)
            wire.close()
            self.assertEqual(self.successResultOf(fetching), inline(body))

    def test_broken_off(self) -> None:
        """Half an image is none."""
        self.refusal(reply()[:-1], "broke off", close=True)
        self.refusal(reply()[:20], "broke off", close=True)
        self.refusal(b"", "broke off", close=True)
        world = World()
        fetching = world.fetcher.fetch(PLAIN)
        wire = world.accept()
        wire.send(b"HTTP/1.1 200 OK\r\n\r\n" + PNG)
        wire.lose(ConnectionLost())
        self.assertRefused(fetching, "broke off in the middle")

    def test_no_http(self) -> None:
        """Whatever else listens there."""
        self.refusal(b"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", "did not answer as an HTTP server does")
        self.refusal(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: wrong\r\n\r\n", "HTTP server")

    def test_endless_head(self) -> None:
        """A head without end, or answers of status 100 without end, are not waited out."""
        continued = b"HTTP/1.1 100 Continue\r\n\r\n"
        for start, more in ((b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"), (continued, continued)):
            world = World()
            fetching = world.fetcher.fetch(PLAIN)
            wire = world.accept()
            wire.send(start)
            while not wire.gone:
                wire.send(more * 100)
                self.assertNoResult(fetching)
            wire.lose()
            self.assertRefused(fetching, "head of its server's answer has no end")
            self.assertQuiet(world)

    def test_head_and_body_at_once(self) -> None:
        """A body that comes along with its head does not count as one."""
        body = PNG.ljust(2 * HEAD_LIMIT)
        world = World(limit=len(body))
        fetching = world.fetcher.fetch(PLAIN)
        world.answer(body)
        self.assertEqual(self.successResultOf(fetching), inline(body))


class KindTests(SynchronousTestCase):
    """`kind_of`."""

    def test_the_bytes_tell(self) -> None:
        """What it is stands in its first bytes, whatever the server says."""
        for body, kind in (
            (PNG, "image/png"),
            (b"\xff\xd8\xff\xe0....JFIF", "image/jpeg"),
            (b"GIF87a..", "image/gif"),
            (b"GIF89a..", "image/gif"),
            (b"RIFF\n\x00\x00\x00WEBPVP8 ", "image/webp"),
            (b"%PDF-1.7\n", "application/pdf"),
        ):
            for told in ("", "text/html", "image/png", "application/octet-stream"):
                self.assertEqual(kind_of(body, told), kind)

    def test_the_server_tells(self) -> None:
        """Kinds of images that are not known by their bytes are believed."""
        for told, kind in (
            ("image/avif", "image/avif"),
            ("Image/SVG+XML; charset=utf-8", "image/svg+xml"),
            ("image/vnd.microsoft.icon", "image/vnd.microsoft.icon"),
        ):
            self.assertEqual(kind_of(b"<svg>", told), kind)

    def test_neither_tells(self) -> None:
        """A page is no image, and nothing is no image either."""
        for told in ("", "text/plain", "image/png", "image/jpg", "image/*", "image/a b", "video/a"):
            self.assertIsNone(kind_of(b"<svg>", told))
        for told in ("", "image/avif"):
            self.assertIsNone(kind_of(b"", told))
        self.assertIsNone(kind_of(b"RIFF....WAVE", "audio/wav"))

    def test_pdf_files_with_something_in_front(self) -> None:
        """The mark of a PDF file may come a little later, if the server says it is one."""
        self.assertEqual(kind_of(b"\xef\xbb\xbf\n%PDF-1.4", "application/pdf"), "application/pdf")
        self.assertIsNone(kind_of(b"<p>%PDF-1.4", "text/html"))
        self.assertIsNone(kind_of(b" " * 1024 + b"%PDF-1.4", "application/pdf"))


class SeveralTests(FetchCase):
    """All that one request names."""

    def serve(self, world: World) -> None:
        """Answer every open connection, also those that open thereby."""
        at = 0
        while at < len(world.dialled):
            path = world.accept(at).value().split(b" ")[1]
            world.wires[-1].send(reply(PNG + path))
            at += 1

    def test_each_once(self) -> None:
        """Every URL has its image, and none is fetched twice."""
        world = World()
        urls = [f"http://a.example/{number}" for number in (1, 2, 1, 3, 2)]
        fetching = world.fetcher.fetch_all(urls)
        self.serve(world)
        found = self.successResultOf(fetching)
        expected = {url: inline(PNG + url[16:].encode()) for url in urls}
        self.assertEqual(found, expected)
        self.assertEqual(list(found), list(expected))
        self.assertEqual(len(world.dialled), 3)
        self.assertQuiet(world)

    def test_a_few_at_a_time(self) -> None:
        """One request has four under way, and all together sixteen."""
        world = World()
        urls = [f"http://a.example/{number}" for number in range(10)]
        first = world.fetcher.fetch_all(urls)
        self.assertEqual(len(world.dialled), AT_A_TIME)
        others = [world.fetcher.fetch_all(urls) for _ in range(9)]
        self.assertEqual(len(world.dialled), IN_ALL)
        others[-1].cancel()
        self.failureResultOf(others.pop(), CancelledError)
        self.assertEqual(len(world.dialled), IN_ALL)
        self.serve(world)
        for fetching in (first, *others):
            found: dict[str, Inline] = self.successResultOf(fetching)
            self.assertEqual(list(found), urls)
        self.assertEqual(len(world.dialled), 90)
        self.assertQuiet(world)

    def test_the_first_failure_ends_it(self) -> None:
        """One that cannot be had is enough: the others are closed, not waited for."""
        world = World()
        urls = [f"http://a.example/{number}.png" for number in range(10)]
        fetching = world.fetcher.fetch_all(urls)
        wires = [world.accept(at) for at in range(AT_A_TIME)]
        wires[2].send(reply(status=b"404 No"))
        self.assertRefused(fetching, "http://a.example/2.png", "status 404")
        self.assertEqual(len(world.dialled), AT_A_TIME)
        self.assertQuiet(world)

    def test_one_of_them_is_no_url(self) -> None:
        """The same if it fails at once."""
        world = World()
        fetching = world.fetcher.fetch_all([PLAIN, "gs://bucket/cat.png"])
        self.assertRefused(fetching, "http:// and https://")
        self.assertTrue(world.reactor.connectors[0].stoppedConnecting)
        self.assertQuiet(world)

    def test_bytes_together(self) -> None:
        """All of one request are within a limit, too, told or counted."""
        told = b"HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n"
        counted = b"HTTP/1.1 200 OK\r\n\r\n"
        for first, last in ((told, told), (counted, counted + b"x" * 601)):
            world = World()
            fetching = world.fetcher.fetch_all([f"http://a.example/{n}" for n in range(3)])
            wires = [world.accept(at) for at in range(3)]
            for wire in wires[:2]:
                wire.send(first + PNG.ljust(700))
            self.assertNoResult(fetching)
            wires[2].send(last)
            self.assertRefused(fetching, "over 2000 bytes together")
            self.assertQuiet(world)
            again = world.fetcher.fetch(PLAIN)
            world.answer()
            self.assertEqual(self.successResultOf(again), inline())

    def test_too_many(self) -> None:
        """A request that names very many is refused as a whole."""
        world = World()
        urls = [f"http://a.example/{number}" for number in range(MOST + 1)]
        fetching = world.fetcher.fetch_all(urls)
        self.assertRefused(fetching, f"names {MOST + 1} images", f"at most {MOST}")
        self.assertEqual(world.dialled, [])
