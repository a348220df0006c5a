"""URLs of callers: one reading of each, and no password or token in a message."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import URI

from aiclient2api.upstream.targets import LONGEST, NotFetched, Target, shown

WEB = (80, 443)


class ReadingTests(SynchronousTestCase):
    """`Target.from_url`."""

    def test_what_is_asked_for(self) -> None:
        """Scheme, host, port, path and query, ready for the wire."""
        for url, expected in (
            ("https://a.example/cat.png", "https://a.example:443/cat.png"),
            ("HTTP://A.Example", "http://a.example:80/"),
            (" https://a.example:80/x?y=1#z ", "https://a.example:80/x?y=1"),
            ("https://a.example.:/?q", "https://a.example:443/?q"),
            ("https://a.example/a b/é?ü=1", "https://a.example:443/a%20b/%C3%A9?%C3%BC=1"),
            ("https://a.example/%2e%2e/a%20b", "https://a.example:443/%2e%2e/a%20b"),
            ("https://bücher.example/", "https://xn--bcher-kva.example:443/"),
            ("https://my_bucket.s3-1.example/", "https://my_bucket.s3-1.example:443/"),
            ("http://93.184.216.34/", "http://93.184.216.34:80/"),
            ("http://[2606:4700:4700:0::AB]/", "http://[2606:4700:4700:0::ab]:80/"),
            ("https://a.example//b//c", "https://a.example:443//b//c"),
        ):
            self.assertEqual(Target.from_url(url, WEB).url, expected)

    def test_twisted_reads_the_same(self) -> None:
        """The client that sends it sees the host that was checked."""
        for url in (
            "https://a.example/x?y=@b",
            "http://a.example:80/\\@b.example/",
            "http://[2606:4700:4700::1111]/a:b@c",
            "http://a.example/;p?http://b.example",
        ):
            target = Target.from_url(url, WEB)
            read = URI.fromBytes(target.url.encode())
            self.assertEqual(
                (read.scheme.decode(), read.host.decode(), read.port, read.originForm.decode()),
                (target.origin.scheme, target.origin.host, target.origin.port, target.path),
            )

    def assertRefused(self, word: str, *urls: str) -> None:
        """Check that none of the URLs is fetched."""
        for url in urls:
            with self.assertRaises(NotFetched, msg=url) as caught:
                Target.from_url(url, WEB)
            self.assertIn(word, str(caught.exception), url)

    def test_schemes(self) -> None:
        """Nothing but the web."""
        self.assertRefused(
            "http://",
            *("file:///etc/passwd", "gs://bucket/x", "ftp://a.example/", "gopher://a.example/_x"),
            *("data:image/png;base64,AAAA", "//a.example/x", "/x", "", "a.example/cat.png"),
        )

    def test_credentials(self) -> None:
        """No user name and no password is sent anywhere."""
        self.assertRefused("leave them out", "https://me:pw@a.example/", "https://@a.example/")
        self.assertRefused("leave them out", "https://a.example@b.example/")

    def test_ports(self) -> None:
        """Only the ports of the web, in either scheme."""
        urls = [f"http://a.example:{port}/" for port in (0, 22, 6379, 8080, 65536, 99999)]
        self.assertRefused("another port", *urls)
        self.assertEqual(Target.from_url("http://a.example:8080/", range(9000)).origin.port, 8080)

    def test_odd_addresses(self) -> None:
        """What some resolvers take for an address and others do not is refused."""
        self.assertRefused(
            "number",
            *("http://2130706433/", "http://0x7f000001/", "http://017700000001/", "http://127.1/"),
            *("http://0x7f.0.0.1/", "http://0177.0.0.1/", "http://127.0.0.1.1/", "http://a.1/"),
            *("http://256.1.1.1/", "http://1.1.1.01/", "http://127.0.0.0x/"),
        )

    def test_odd_hosts(self) -> None:
        """Hosts that cannot be, or that hide something."""
        self.assertRefused(
            "read",
            *("http:///x", "http://", "http://./", "http://a..example/", "http://-a.example/"),
            *("http://a.example%00.b/", "http://%6c%6fcalhost/", "http://a\\b.example/"),
            *("http://[fe80::1%25eth0]/", "http://[fe80::1%eth0]/", "http://[::1/", "http://[x]/"),
            *("http://[a]/", "http://[127.1]/", "http://[1.1.1.1]/", "http://[:]/", "http://[]/"),
            *(
                "http://a.example:8a/",
                "http://a.example:-80/",
                "http://1.1.1.1:80./",
                "http://a b/",
                "http://a.b\uff0fc/",
            ),
            *("http://" + "a" * 64 + ".example/", "http://" + "a." * 130 + "example/"),
            *("http://a.example/\r\nHost: b", "http://a\t.example/", "http://a.example/\x00"),
        )

    def test_length(self) -> None:
        """No longer than anybody needs."""
        stem = "http://a.example/"
        Target.from_url(stem + "a" * (LONGEST - len(stem)), WEB)
        self.assertRefused(str(LONGEST), stem + "a" * (LONGEST - len(stem) + 1))


class RedirectTests(SynchronousTestCase):
    """`Target.redirected`."""

    def test_where_to(self) -> None:
        """Relative or absolute, as browsers read it."""
        target = Target.from_url("https://a.example/x/y?q", WEB)
        for location, expected in (
            ("z", "https://a.example:443/x/z"),
            ("/z?r#s", "https://a.example:443/z?r"),
            ("//b.example/z", "https://b.example:443/z"),
            ("http://b.example/é", "http://b.example:80/%C3%A9"),
        ):
            self.assertEqual(target.redirected(location, WEB).url, expected)

    def test_same_rules(self) -> None:
        """What a caller may not name, no server may either; and it is not shown."""
        target = Target.from_url("https://a.example/x", WEB)
        for location in (
            "",
            "file:///etc/passwd",
            "http://me:hush@b.example/",
            "http://127.1/",
            "http://b.example:22/",
            "http://[",
            "http://[::1%25lo]/",
            "/\x01",
        ):
            error = self.assertRaises(NotFetched, target.redirected, location, WEB)
            self.assertIn("redirects to", str(error))
            self.assertNotIn("hush", str(error))


class ShownTests(SynchronousTestCase):
    """`shown`."""

    def test_what_is_shown(self) -> None:
        """The host and a file's name; neither queries nor tokens nor passwords."""
        for url, expected in (
            ("https://a.example/cat.png?sig=hush", "https://a.example/cat.png"),
            ("https://a.example/bot123:hush/cat.png", "https://a.example/.../cat.png"),
            ("https://a.example/hush", "https://a.example"),
            ("https://a.example/" + "x" * 50 + ".png", "https://a.example"),
            ("http://a.example:8080/", "http://a.example:8080"),
            ("https://me:hush@a.example/", "a URL in this request"),
            ("nonsense", "a URL in this request"),
        ):
            self.assertEqual(shown(url), expected)
