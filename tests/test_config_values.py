"""
How single values are read: what is taken, what is refused, and what is said then.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.config import values as read
from aiclient2api.config.values import Given, Place, Reader, Wrong


def given(value: object, place: Place | None = None) -> Given:
    """Return a value as if it stood in a file."""
    return Given("f.json: key", value, place or Place(Path("/f"), Path("/c"), Path("/h")))


class ReaderTests(SynchronousTestCase):
    """Numbers, words, lists and URLs."""

    def assertReads(self, reader: Reader[Any], *pairs: tuple[object, object]) -> None:
        """Check that each value is read as its partner."""
        for value, expected in pairs:
            found = reader(given(value))
            self.assertEqual((type(found), found), (type(expected), expected), repr(value))

    def assertRefuses(self, reader: Reader[Any], *values: object) -> None:
        """Check that each value is refused with what to write instead."""
        for value in values:
            try:
                found = reader(given(value))
            except Wrong as wrong:
                self.assertRegex(str(wrong), "; ", repr(value))
            else:
                self.fail(f"{value!r} was read as {found!r}")

    def test_whole_numbers(self) -> None:
        """Whole numbers, also in quotes; nothing that has to be guessed at."""
        port = read.whole(low=0, high=65535, what="a port", example=3000)
        self.assertReads(port, (0, 0), ("3000", 3000), (" 80 ", 80), (65535, 65535), (80.0, 80))
        refused = (-1, 65536, "abc", "3_000", "３", 1.5, True, None, [1], "", float("inf"))
        self.assertRefuses(port, *refused)

    def test_numbers(self) -> None:
        """Numbers with a fraction, also in quotes, never negative and never endless."""
        seconds = read.number(high=100.0, what="a number of seconds", example=10)
        self.assertReads(seconds, (0, 0.0), ("2.5", 2.5), (".5", 0.5), ("1e1", 10.0), (100, 100.0))
        nan, endless = float("nan"), float("inf")
        self.assertRefuses(seconds, -0.1, 100.1, "10s", "nan", nan, endless, "1e999", False, {})

    def test_yes_and_no(self) -> None:
        """true and false, also in quotes, but not 1 and 0."""
        self.assertReads(read.yes_no, (True, True), ("False", False), (" true", True))
        self.assertRefuses(read.yes_no, 1, 0, "yes", "", None)

    def test_choices(self) -> None:
        """One of a few words, in any case of letters."""
        mode = read.choice("overwrite", "Append")
        self.assertReads(mode, ("OVERWRITE", "overwrite"), ("append", "Append"))
        self.assertRefuses(mode, "prepend", 1, None)

    def test_names(self) -> None:
        """A list of texts, or one text with commas; each once."""
        self.assertReads(read.names, ("a, b,,a", ("a", "b")), (["a", " b"], ("a", "b")), ("", ()))
        self.assertRefuses(read.names, [1], {"a": 1}, 5)

    def test_keys(self) -> None:
        """A key is printable ASCII without spaces, and is never repeated."""
        self.assertReads(read.secret, ("sk-test", "sk-test"), ("", ""))
        self.assertRefuses(read.secret, "a b", "a\n", "schlüssel", 123456, ["x"])
        wrong = self.assertRaises(Wrong, read.secret, given("hush hush"))
        self.assertNotIn("hush", str(wrong))

    def test_urls(self) -> None:
        """A base URL is absolute and holds no key, no query and no fragment."""
        for url in (
            "https://api.example.com/v1",
            "http://127.0.0.1:8080",
            "http://[::1]:1/v1/",
            "https://h_1.example/a%20b",
        ):
            self.assertReads(read.url, (f" {url} ", url))
        self.assertRefuses(
            read.url,
            "api.example.com/v1",
            "ftp://h/",
            "https://",
            "https:///v1",
            "https://me:key@h/",
            "https://h/?key=x",
            "https://h/#",
            "https://h:99999/",
            "https://h:0/",
            "https://[::1/",
            "https://[x]/",
            "https://h/a b",
            "https://bücher.example/",
            "https://h/{region}",
            5,
        )

    def test_proxies(self) -> None:
        """A proxy's URL may hold a password, but no path."""
        for url in ("http://h:1", "socks5://me:pw@h:1", "https://h/", "socks5h://h"):
            self.assertReads(read.proxy, (url, url))
        self.assertReads(read.proxy, ("", ""))
        self.assertRefuses(read.proxy, "h:1", "ftp://h", "http://h/x", "http://h?x", 1)

    def test_origins(self) -> None:
        """An origin is a scheme, a host and perhaps a port."""
        self.assertReads(
            read.origin,
            ("https://app.example.com/", "https://app.example.com"),
            ("http://localhost:5173", "http://localhost:5173"),
            ("chrome-extension://abc", "chrome-extension://abc"),
            ("*", "*"),
        )
        self.assertRefuses(read.origin, "app.example.com", "https://h/p", 1)

    def test_levels(self) -> None:
        """Log levels go by several names."""
        self.assertReads(read.level, ("WARNING", "warn"), ("trace", "debug"), ("off", "critical"))
        self.assertRefuses(read.level, "loud", 10)

    def test_texts(self) -> None:
        """A project's number is a text too."""
        self.assertReads(read.text, ("a", "a"), (12, "12"))
        self.assertRefuses(read.text, True, [], 1.5)

    def test_wrong_values_are_shown_with_care(self) -> None:
        """A sentence shows short values, but nothing that might be a key."""
        self.assertEqual(read.show("abc"), '"abc"')
        self.assertEqual(read.show("sk-abc"), "a text of 6 characters")
        self.assertEqual(read.show("x" * 21), "a text of 21 characters")
        self.assertEqual(read.show(10**30), "a long number")
        self.assertEqual(
            (read.show([1]), read.show({}), read.show(None)), ("a list", "an object", "null")
        )
        self.assertEqual(json.loads(read.name_shown("x" * 100)), "x" * 60 + "...")
        self.assertEqual(read.name_shown("sk-abcdef"), '"sk-..."')


class PathTests(SynchronousTestCase):
    """Relative paths and ~."""

    def setUp(self) -> None:
        """Make the file's folder, the start-up folder and a home."""
        root = Path(self.mktemp()).absolute()
        self.place = Place(root / "folder", root / "cwd", root / "home")
        for folder in (self.place.folder, self.place.cwd):
            folder.mkdir(parents=True)

    def test_order(self) -> None:
        """A file in the naming file's folder comes before one where we were started."""
        self.assertEqual(self.place.resolve("x"), self.place.cwd / "x")
        (self.place.folder / "x").write_text("")
        self.assertEqual(self.place.resolve("x"), self.place.folder / "x")
        self.assertEqual(self.place.resolve("./x"), self.place.folder / "x")

    def test_absolute_and_home(self) -> None:
        """A whole path stays, ~ is the home folder."""
        self.assertEqual(self.place.resolve("/x/y"), Path("/x/y"))
        self.assertEqual(self.place.resolve("~/x"), self.place.folder.parent / "home" / "x")
        nowhere = Place(self.place.folder, self.place.cwd, None)
        self.assertRaises(Wrong, nowhere.resolve, "~/x")

    def test_impossible_paths(self) -> None:
        """What no file can be called is refused; what is only too long is just missing."""
        for text in ("", "  ", "a\0b", "\ud800"):
            self.assertRaises(Wrong, self.place.resolve, text)
        self.assertEqual(self.place.resolve("x" * 9999), self.place.cwd / ("x" * 9999))
        self.assertRaises(Wrong, read.path, given(5))

    def test_path_or_no(self) -> None:
        """A switch that may also be a path."""
        name = "fetch_system_prompt.txt"
        self.assertEqual(read.path_or_no(given(True, self.place)), self.place.cwd / name)
        self.assertEqual(read.path_or_no(given("x.txt", self.place)), self.place.cwd / "x.txt")
        self.assertIsNone(read.path_or_no(given("false", self.place)))


class LoopbackTests(SynchronousTestCase):
    """Which hosts only this machine can reach."""

    def test_loopback(self) -> None:
        """The whole of 127/8, ::1, mapped addresses and localhost."""
        for host in ("127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "::ffff:127.0.0.1"):
            self.assertTrue(read.is_loopback(host), host)
        for host in ("0.0.0.0", "::", "", "10.0.0.1", "example.com", "127.0.0.1.example.com"):
            self.assertFalse(read.is_loopback(host), host)
