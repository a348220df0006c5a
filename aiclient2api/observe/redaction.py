"""
Take secrets out of text before it is shown or kept.

Two nets: the exact strings that the configuration calls secret, and the shapes that
keys and tokens of the known services have. It knows nothing of where text goes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence

MARK = "[secret]"
SHORTEST = 4
"""Configured strings shorter than this stay: they would blot out ordinary words."""
TELLING = 6
"""So many characters of a secret, at the end of a text that was cut, are too many."""
MARGIN = 16 * 1024
"""Characters looked at beyond a cut; longer than any key or token."""

# Each alternative is linear: what may follow a start is taken at once, and no start
# lies within another's run. A client chooses these texts and must not stall us.
_SHAPES = re.compile(
    r"""
      \bsk-[A-Za-z0-9_-]{16,}                                # OpenAI, Anthropic and many more
    | \bAIza[A-Za-z0-9_-]{30,}                               # Google API key
    | \bya29\.[A-Za-z0-9._-]{16,}                            # Google access token
    | \b1//0[A-Za-z0-9_-]{20,}                               # Google refresh token
    | (?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*              # JSON web token
    | \b[Bb][Ee][Aa][Rr][Ee][Rr][ ]+[A-Za-z0-9._~+/=-]{8,}   # any bearer token
    | \b[Bb][Aa][Ss][Ii][Cc][ ]+[A-Za-z0-9+/]{8,}={1,2}      # a name and a password
    """,
    re.VERBOSE,
)
_HINTS = ("sk-", "aiza", "ya29.", "1//0", "eyj", "bearer ", "basic ")
"""What each of the shapes begins with, in lower case."""

# Where URLs have secrets: what follows is bounded, so that these are linear as well.
_IN_URLS = re.compile(
    r"""
      (?<=://) [^\s/@?\#"'<>]{1,512} (?=@)
    | (?<=[?&;]) (?P<name> (?:api_?|access_?)?key | (?:access_|refresh_|id_)?token
        | client_secret | code | code_verifier | device_code | password ) =
      [^\s&;\#"'<>]{1,4096}
    """,
    re.VERBOSE | re.IGNORECASE,
)


def without(text: str, secrets: Iterable[str]) -> str:
    """
    Return *text* with each of *secrets* replaced by ``[secret]``, and nothing else.

    The text may have been cut off within a secret: the first `TELLING` characters of one,
    or more, are replaced as well where they end the text.

    :param secrets: Exact strings; those under `SHORTEST` characters are ignored.
    """
    for secret in _longest_first(secrets):
        text = _without_end(text.replace(secret, MARK), [(each,) for each in secret])
    return text


def without_bytes(body: bytes, secrets: Iterable[str]) -> bytes:
    """
    Do the same to bytes, where JSON may spell a secret in other ways (``\\/`` for ``/``).

    :param body: UTF-8, JSON or not, whole or cut off anywhere.
    """
    # Latin-1 stands for any bytes whatever, one character each.
    text = body.decode("latin-1")
    for secret in _longest_first(secrets):
        spelled = [_spellings(each) for each in secret]
        pattern = "".join(f"(?:{'|'.join(map(re.escape, each))})" for each in spelled)
        text = _without_end(re.sub(pattern, MARK, text), spelled)
    return text.encode("latin-1")


def redacted(text: str, secrets: Iterable[str]) -> str:
    """
    Return *text* with every secret replaced, and all that has the shape of one.

    :param secrets: As `without` takes them.
    """
    return unshaped(without(text, secrets))


def unshaped(text: str) -> str:
    """Return *text* without what has the shape of a secret, or stands where URLs have one."""
    # Most texts have nothing of the kind, and to see that takes a hundredth of the time.
    lower = text.lower()
    if any(hint in lower for hint in _HINTS):
        text = _SHAPES.sub(MARK, text)
    if "=" in text or "@" in text:
        text = _IN_URLS.sub(_named, text)
    return text


def spelled(secret: str) -> tuple[str, ...]:
    """Return how the writers of JSON there are spell *secret*."""
    escaped = json.dumps(secret)[1:-1]
    plain = json.dumps(secret, ensure_ascii=False)[1:-1]
    # Some write as escapes whatever is no letter, some what means something to HTML.
    ways = [
        re.sub(which, lambda found, form=form: form % ord(found[0]), secret)
        for which in ("[^A-Za-z0-9]", "[^A-Za-z0-9._~-]", "[<>&'+=]")
        for form in ("\\u%04x", "\\u%04X")
    ]
    return (escaped, plain, escaped.replace("/", "\\/"), *ways)


def _named(found: re.Match[str]) -> str:
    name = found["name"]
    return MARK if name is None else f"{name}={MARK}"


def _longest_first(secrets: Iterable[str]) -> list[str]:
    # A key that begins with another key must not leave its end behind.
    return sorted({each for each in secrets if len(each) >= SHORTEST}, key=len, reverse=True)


def _spellings(character: str) -> Sequence[str]:
    """Return how JSON may write one character, longest first, its bytes as Latin-1."""
    raw = character.encode("utf-8", "surrogatepass").decode("latin-1")
    if character.isascii() and (character.isalnum() or character in "-_."):
        return (raw,)
    digits = character.encode("utf-16-be", "surrogatepass").hex()
    units = [digits[at : at + 4] for at in range(0, len(digits), 4)]
    ways = {raw, json.dumps(character)[1:-1]}
    ways |= {"".join("\\u" + unit for unit in units)}
    ways |= {"".join("\\u" + unit.upper() for unit in units)}
    if character == "/":
        ways.add("\\/")
    return sorted(ways, key=len, reverse=True)


def _without_end(text: str, secret: Sequence[Sequence[str]]) -> str:
    """Replace the first part of a secret, given by its characters' spellings, at the end."""
    longest = sum(len(spellings[0]) for spellings in secret)
    for at in range(max(0, len(text) - longest), len(text) - TELLING + 1):
        if _breaks_off(text, at, secret):
            return text[:at] + MARK
    return text


def _breaks_off(text: str, at: int, secret: Sequence[Sequence[str]]) -> bool:
    """Say whether the secret begins at *at* and the text ends before it does."""
    for number, spellings in enumerate(secret):
        found = next((each for each in spellings if text.startswith(each, at)), None)
        if found is None:
            rest = text[at:]
            return number >= TELLING and any(each.startswith(rest) for each in spellings)
        at += len(found)
    return False


def beginning(text: str, limit: int) -> str:
    """Return as much of *text* as `excerpt` must see; cheap, however long it is."""
    return text[: limit + MARGIN]


def excerpt(text: str, clean: Callable[[str], str], limit: int, *, length: int) -> str:
    """
    Return the beginning of a text, redacted, and a note of what was left out.

    No secret is shown in part because a cut went through it.

    :param text: The `beginning` of the text.
    :param clean: Returns a text redacted.
    :param limit: Bytes of UTF-8 to keep.
    :param length: Characters of the whole text.
    """
    seen = kept = clean(text)
    if length > len(text):
        # Only the last characters seen can be the first part of a secret.
        kept = kept[: max(0, len(kept) - MARGIN)]
    kept = kept.encode("utf-8", "replace")[:limit].decode("utf-8", "ignore")
    left_out = length - len(text) + len(seen) - len(kept)
    return f"{kept}\n[{left_out} characters left out]" if left_out else kept
