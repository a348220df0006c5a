"""
The scrubber: what it finds in which forms, what it leaves alone, and how long it takes.
"""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from time import process_time
from urllib.parse import quote, quote_plus

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.errors import Fault, InvalidRequest, NoAccount, RawReply, UpstreamError
from aiclient2api.observe import scrubber as module
from aiclient2api.observe.scrubber import Scrubber, secrets_in

SECRET = "canary/one+two=three"


def knowing(*secrets: str) -> Scrubber:
    """Return a scrubber with these in force."""
    scrubber = Scrubber()
    scrubber.hold(secrets)
    return scrubber


def forms(secret: str) -> Iterator[str]:
    """Yield *secret* as other programs write it, made in other ways than ours."""
    raw = secret.encode()
    yield secret
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret)[1:-1].replace("/", "\\/")
    yield "".join(
        c if c.isascii() and (c.isalnum() or c in "-._") else f"\\u{ord(c):04X}" for c in secret
    )
    yield quote(secret)
    yield quote(secret, safe="")
    yield quote_plus(secret)
    yield quote(secret, safe="").replace("%2F", "%2f").replace("%2B", "%2b").replace("%3D", "%3d")
    yield raw.hex()
    yield raw.hex().upper()
    for before in (b"", b"x", b"xy", b"user:"):
        for after in (b"", b"z", b"zz"):
            yield b64encode(before + raw + after).decode()
            yield urlsafe_b64encode(before + raw + after).decode()


class FormsTests(SynchronousTestCase):
    """In what forms a secret is found."""

    def test_every_form_goes(self) -> None:
        """Plain, JSON, URL, hexadecimal and base64 at every alignment: nothing is left to read."""
        for secret in (SECRET, "sk-0123456789abcdef", "p\u00e4ssw\u00f6rt-\u4e00"):
            scrubber = knowing(secret)
            whole = secret.encode()
            for form in forms(secret):
                shown = scrubber.known(f"told: {form} and more")
                self.assertIn("[secret]", shown, form)
                self.assertTrue(shown.startswith("told: ") and shown.endswith(" and more"), shown)
                # Base64 leaves a letter or two at either side, with what stood beside it.
                left = shown.replace("[secret]", "").removeprefix("told: ")
                self.assertLess(len(left.removesuffix(" and more")), 13, (form, shown))
                self.assertNotIn(whole[4:-4].hex(), shown)

    def test_the_same_in_bytes(self) -> None:
        """A body that is no text, or text in UTF-8, is looked through as well."""
        secret = "p\u00e4ssw\u00f6rt-of-mine"
        body = b"\xff\x00" + secret.encode() + b"\xfe"
        self.assertEqual(knowing(secret).data(body), b"\xff\x00[secret]\xfe")

    def test_what_is_not_there_costs_no_copy(self) -> None:
        """A body without a secret is returned as it is."""
        body = bytes(range(256)) * 4
        self.assertIs(knowing(SECRET).data(body), body)
        self.assertIs(Scrubber().data(body), body)

    def test_short_ones(self) -> None:
        """A key of four letters goes where it stands plainly; shorter ones stay."""
        scrubber = knowing("open", "abc")
        self.assertEqual(scrubber.known("open abc reopened"), "[secret] abc re[secret]ed")

    def test_the_longer_of_two_goes(self) -> None:
        """A key that begins with another one, or ends with it, leaves nothing behind."""
        scrubber = knowing("sk-test-one", "sk-test-one-and-more", "and-more-to-tell")
        self.assertEqual(scrubber.known("a sk-test-one-and-more b"), "a [secret] b")
        self.assertEqual(
            scrubber.known("a sk-test-one b and-more-to-tell"), "a [secret] b [secret]"
        )
        self.assertEqual(scrubber.known("sk-test-onesk-test-one"), "[secret][secret]")

    def test_the_first_part_of_one_goes_where_a_text_ends(self) -> None:
        """A text that was cut in the middle of a key does not bare six characters of it."""
        for secret in ("open-sesame", "open-sesame-" * 20):
            scrubber = knowing(secret)
            for length in range(6, len(secret)):
                self.assertEqual(scrubber.known("key " + secret[:length]), "key [secret]", length)
            self.assertEqual(scrubber.known("key open-"), "key open-")
            self.assertEqual(scrubber.known(secret[:9] + " is cut"), secret[:9] + " is cut")

    @given(
        secret=st.text(st.characters(codec="utf-8"), min_size=11, max_size=40),
        before=st.text(max_size=30),
        after=st.text(max_size=30),
    )
    def test_wherever_it_stands(self, secret: str, before: str, after: str) -> None:
        """No place in a text hides a secret."""
        shown = knowing(secret).known(before + secret + after)
        self.assertNotIn(secret, shown.replace("[secret]", "\0"))


class ShapesTests(SynchronousTestCase):
    """What goes though nobody configured it."""

    def test_urls(self) -> None:
        """What stands where URLs have names, passwords, keys and codes goes; the rest stays."""
        for url, shown in (
            ("https://me:word@host:8/x", "https://[secret]@host:8/x"),
            ("http://token@host", "http://[secret]@host"),
            ("https://host/x?key=abc&alt=sse", "https://host/x?key=[secret]&alt=sse"),
            ("/x?alt=sse&API_KEY=a#b", "/x?alt=sse&API_KEY=[secret]#b"),
            ("?code=4/0Ab_c&state=s", "?code=[secret]&state=s"),
            ("?access_token=x;refresh_token=y", "?access_token=[secret];refresh_token=[secret]"),
            ("Basic dXNlcjpwYXNzd29yZA==", "[secret]"),
        ):
            self.assertEqual(Scrubber().text(f"GET {url} failed"), f"GET {shown} failed")

    def test_ordinary_text_stays(self) -> None:
        """Addresses without secrets, mail addresses and equations are no secrets."""
        text = "see https://host/x?keys=1&monkey=2, mail me@host.example, code=12, key = 3; a://b"
        self.assertEqual(Scrubber().text(text), text)
        self.assertEqual(Scrubber().known("sk-" + "x1" * 20), "sk-" + "x1" * 20)


class LearningTests(SynchronousTestCase):
    """Which secrets are looked for."""

    def test_those_that_were_in_force_are_not_forgotten(self) -> None:
        """An answer to a request of before a reload may still quote the old key."""
        scrubber = knowing("the-old-secret")
        scrubber.hold(["the-new-secret"])
        self.assertEqual(scrubber.known("the-old-secret the-new-secret"), "[secret] [secret]")

    def test_a_bounded_number_is_remembered(self) -> None:
        """Tokens of a year do not fill the memory: the oldest go, those in force never."""
        self.patch(module, "MOST_PASSED", 100)
        scrubber = knowing("configured-secret")
        for number in range(301):
            scrubber.learn([f"token-number-{number:04}"])
        self.assertEqual(scrubber.known("configured-secret"), "[secret]")
        self.assertEqual(scrubber.known("token-number-0300"), "[secret]")
        self.assertEqual(scrubber.known("token-number-0000 "), "token-number-0000 ")
        self.assertLessEqual(len(scrubber._passed), 100)
        scrubber.forget()
        self.assertEqual(scrubber.known("configured-secret"), "configured-secret")

    def test_what_is_secret_in_a_credential(self) -> None:
        """Tokens and secrets, wherever a vendor keeps them, and nothing else."""
        document = {
            "access_token": "at",
            "tokens": {"refreshToken": "rt", "id_token": "idt", "token_type": "Bearer"},
            "clientSecret": "cs",
            "token_uri": "https://host/token",
            "expires_at": "2030",
            "email": "me@host",
            "device_code": "dc",
        }
        self.assertEqual(sorted(secrets_in(document)), ["at", "cs", "dc", "idt", "rt"])


class ErrorTests(SynchronousTestCase):
    """What may be told of an error."""

    def test_everything_a_client_may_see(self) -> None:
        """Message, code, parameter, the upstream's headers and its body."""
        reply = RawReply(401, ((b"x-request-id", SECRET.encode()),), b'{"m":"' + SECRET.encode())
        error = UpstreamError(
            f"It says {SECRET}",
            fault=Fault.CREDENTIAL,
            status=401,
            reply=reply,
            code=SECRET,
            param=SECRET,
            retry_after=3.0,
        )
        clean = knowing(SECRET).error(error)
        self.assertEqual(
            (clean.message, str(clean), clean.code, clean.param, clean.retry_after, clean.fault),
            ("It says [secret]", "It says [secret]", "[secret]", "[secret]", 3.0, Fault.CREDENTIAL),
        )
        self.assertEqual(
            clean.reply, RawReply(401, ((b"x-request-id", b"[secret]"),), b'{"m":"[secret]')
        )
        self.assertEqual(error.message, f"It says {SECRET}")

    def test_it_stays_what_it_is(self) -> None:
        """Status and kind are those of the error, and one without a secret is not copied."""
        limited = NoAccount(f"None left: {SECRET}", code="none", limited=True, retry_after=1.0)
        clean = knowing(SECRET).error(limited)
        self.assertEqual((type(clean), clean.status, clean.kind), (NoAccount, 429, "rate_limit"))
        plain = InvalidRequest("No.", code="x", param="messages")
        self.assertIs(knowing(SECRET).error(plain), plain)


class TimeTests(SynchronousTestCase):
    """A text is read once, however many secrets there are and whoever wrote it."""

    def test_large_and_hostile_texts(self) -> None:
        """256 KiB made of the beginnings of keys and tokens take no time."""
        scrubber = knowing(
            *(f"sk-canary-{number:04}-{'x' * 20}" for number in range(1000)),
            "eyJhbGciOiJSUzI1NiJ9." + "a" * 2000,
            "a" * 4000,
        )
        for piece in ("sk-canary-", "eyJhbGci", "a", "\\u00", "?key=", "://", "[secret]", "basic "):
            began = process_time()
            scrubber.text(piece * (256 * 1024 // len(piece)))
            self.assertLess(process_time() - began, 2.0, piece)
