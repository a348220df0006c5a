"""
Which parts of a text are secrets, and what is shown in their place.
"""

from __future__ import annotations

import json
from functools import partial
from time import process_time

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.observe.redaction import (
    MARGIN,
    beginning,
    excerpt,
    redacted,
    without,
    without_bytes,
)


def cut(text: str, secrets: list[str], limit: int) -> str:
    """Return the excerpt of *text*, as the prompt log makes it."""
    return excerpt(
        beginning(text, limit), partial(redacted, secrets=secrets), limit, length=len(text)
    )


class RedactedTests(SynchronousTestCase):
    """`redacted`."""

    def test_configured_secrets_go(self) -> None:
        """Every configured string is replaced wherever it stands."""
        text = "key=open-sesame, again:open-sesame."
        self.assertEqual(redacted(text, ["open-sesame"]), "key=[secret], again:[secret].")

    def test_the_longer_of_two_secrets_goes_first(self) -> None:
        """A key that begins with another one leaves nothing behind."""
        self.assertEqual(redacted("a abcd-efgh b", ["abcd", "abcd-efgh"]), "a [secret] b")

    def test_what_is_too_short_stays(self) -> None:
        """An empty or tiny key does not make the text unreadable."""
        self.assertEqual(redacted("a cab", ["", "a", "ca"]), "a cab")

    def test_things_shaped_like_keys_go(self) -> None:
        """Keys and tokens that nobody configured are known by their shape."""
        body = "x1" * 20
        for shape in (
            f"sk-{body}",
            f"sk-ant-api03-{body}",
            f"sk-proj-{body}",
            f"AIza{body}",
            f"ya29.{body}",
            f"1//0{body}",
            f"Bearer {body}",
            f"bearer  {body}==",
            f"eyJ{body}.{body}.{body}",
        ):
            self.assertEqual(redacted(f"({shape})", []), "([secret])", shape)

    def test_ordinary_words_stay(self) -> None:
        """Prose and identifiers are no keys."""
        text = "The task-force asked: sk-test? A bearer of news, ya29, AIza and eyJ."
        self.assertEqual(redacted(text, []), text)

    def test_hostile_text_takes_no_time(self) -> None:
        """Text made of the beginnings of keys is read in one pass."""
        for start in (
            "sk-",
            "eyJ",
            "eyJ-",
            "bearer ",
            "AIza",
            "ya29.",
            "1//0",
            "eyJ" + "a" * 9 + ".",
        ):
            began = process_time()
            redacted(start * (256 * 1024 // len(start)), [])
            self.assertLess(process_time() - began, 2.0, start)


class WithoutTests(SynchronousTestCase):
    """`without`."""

    def test_only_configured_strings_go(self) -> None:
        """What merely looks like a key is somebody's text and stays."""
        key = "sk-" + "x1" * 20
        self.assertEqual(without(f"{key} or open-sesame?", ["open-sesame"]), f"{key} or [secret]?")

    def test_the_beginning_of_a_secret_at_the_end_goes(self) -> None:
        """A text that was cut in the middle of a key does not bare six characters of it."""
        secret = "open-sesame"
        for length in range(6, len(secret)):
            self.assertEqual(without("key " + secret[:length], [secret]), "key [secret]")
        self.assertEqual(without("key open-", [secret]), "key open-")
        self.assertEqual(without("open-s is cut", [secret]), "open-s is cut")

    def test_the_longest_beginning_goes(self) -> None:
        """Where a key repeats itself, or two begin alike, nothing is left in front."""
        self.assertEqual(without("abcabcabcabc", ["abcabcabcabcd"]), "[secret]")
        self.assertEqual(without("open-sesam", ["open-sesame", "sesame"]), "[secret]")


class WithoutBytesTests(SynchronousTestCase):
    """`without_bytes`."""

    def test_all_spellings_of_json_go(self) -> None:
        """However the vendor's server writes JSON, the key is found in it."""
        secret = 'a/b+c="\\\n\u00e9\U0001f511'
        plain = json.dumps(secret, ensure_ascii=False)[1:-1]
        escaped = json.dumps(secret)[1:-1]
        for spelling in (
            secret,
            plain,
            escaped,
            plain.replace("/", "\\/"),
            escaped.replace("/", "\\/"),
            plain.replace("+", "\\u002B").replace("\u00e9", "\\u00E9"),
            escaped.replace("=", "\\u003d"),
        ):
            body = b'{"m":"' + spelling.encode() + b'."}'
            self.assertEqual(without_bytes(body, [secret]), b'{"m":"[secret]."}', spelling)

    def test_the_longer_of_two_secrets_goes_first(self) -> None:
        """A key that begins with another one leaves nothing behind."""
        self.assertEqual(without_bytes(b"sk-testlong", ["sk-test", "sk-testlong"]), b"[secret]")

    def test_other_bytes_stay(self) -> None:
        """Tiny keys are ignored, and bytes that are no text come through."""
        body = bytes(range(256))
        self.assertEqual(without_bytes(body, ["", "abc", "open-sesame"]), body)

    def test_the_beginning_of_a_secret_at_the_end_goes(self) -> None:
        """A body cut in the middle of a key, or of an escape in it, does not bare it."""
        secret = "open/sesame/now"
        spelled = secret.replace("/", "\\/").encode()
        for length in range(len("open\\/s"), len(spelled)):
            self.assertEqual(without_bytes(b"key " + spelled[:length], [secret]), b"key [secret]")
        self.assertEqual(without_bytes(b"key open\\/", [secret]), b"key open\\/")

    def test_a_large_body_takes_no_time(self) -> None:
        """A body made of a key's beginnings is read in one pass."""
        secrets = ["sk-" + "a" * 4000, "a" * 50 + "/" * 50]
        for piece in (b"sk-", b"a", b"\\u00"):
            began = process_time()
            without_bytes(piece * (256 * 1024 // len(piece)), secrets)
            self.assertLess(process_time() - began, 2.0, piece)


class ExcerptTests(SynchronousTestCase):
    """`excerpt`."""

    def test_a_short_text_is_whole(self) -> None:
        """What fits is shown, without a note."""
        self.assertEqual(cut("hello", [], 5), "hello")

    def test_a_long_text_is_cut_with_a_note(self) -> None:
        """The note says how many characters are missing, near the limit and far over it."""
        for length in (11, 10 + MARGIN, 11 + MARGIN, 100_000):
            self.assertEqual(
                cut("é" * length, [], 20),
                "é" * min(10, length) + (f"\n[{length - 10} characters left out]"),
            )

    def test_a_cut_never_splits_a_character(self) -> None:
        """The limit is in bytes, and a character that does not fit is left out whole."""
        self.assertEqual(cut("aé", [], 2), "a\n[1 characters left out]")

    def test_a_cut_never_bares_a_part_of_a_secret(self) -> None:
        """A secret is gone wherever the cut falls, even where much was replaced before."""
        secret = "s3cr3t-" * 500
        for before in range(0, len(secret), 100):
            shown = cut("." * before + secret * 100, [secret], len(secret))
            self.assertNotIn("s3c", shown)
