"""
The fault catalogue: what each fault is played as, and what a client is to get of it.

`CATALOGUE` is the only place where an expectation stands. A fault has scenes: who answers
what, attempt by attempt, and what comes of it, request by request. What differs with the
dialects stands below it, in `OTHERWISE`. It knows neither sockets nor bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import attrs

from tests.faults.answers import SPEAKERS

SHORT = 0.4
"""Seconds of a clock that is to run out, while everything it could wait for is there already."""
LONGER = 3.0
"""The same where a request must have reached the upstream by then, however busy all are."""


@attrs.frozen
class Ask:
    """
    What comes of one request.

    :ivar asked: The accounts that are asked, in order: every letter is one attempt.
    :ivar ends: How the client's answer ends. ``answered``: in full, by the last that was asked.
        ``filtered``: so, and it says that a filter ended it. ``passed on``: so, with the
        upstream's own garbage in it. ``error``: nothing but an error. ``told``: some of it, and
        then an error. ``told late``: so, but what looks like an end had gone out already.
    :ivar status: The HTTP status.
    :ivar code: The error's, as the trace has it, or None if it does not matter.
    :ivar how: How the exchange ended, as the trace says it.
    :ivar after: Seconds to wait before this request.
    :ivar later: True if the client is told when to come back.
    :ivar by: Who stands in trace and booking, if it is not the last that was asked.
    :ivar headed: Who stands in the head of the answer, if it is not the same.
    """

    asked: str
    ends: str = "answered"
    status: int = 200
    code: str | None = None
    how: str = "complete"
    after: float = 0.0
    later: bool = False
    by: str = ""
    headed: str = ""

    @property
    def answering(self) -> str:
        """Return who stands in trace and booking."""
        return self.by or self.asked[-1:]


def error(
    asked: str, status: int, code: str | None = None, *, later: bool = False, after: float = 0.0
) -> Ask:
    """Nothing was sent yet, so the client gets a real status."""
    return Ask(asked, "error", status, code, how="failed", later=later, after=after)


def told(asked: str, code: str, how: str = "truncated") -> Ask:
    """Something was sent, so the client gets an error event and no end."""
    return Ask(asked, "told", 200, code, how=how)


Asks = tuple[Ask, ...]


@attrs.frozen
class Scene:
    """
    One way in which a fault is met.

    The accounts are ``a``, ``b`` and so on of the provider, in this order of preference, and
    ``w`` of another provider, whose model stands in for the one asked for.

    :ivar plays: By account: what its attempts are answered with, the last one for ever.
    :ivar streamed: What comes of each request, one after the other; or why this is not played.
    :ivar whole: The same for answers in one piece.
    :ivar settings: What account ``a`` says for itself.
    :ivar windows: Tokens that the contexts of the model and of its stand-in may have.
    :ivar resting: Accounts of the provider that rest when all is over.
    :ivar on_cut: What is to be done with a stream that breaks off, unless as usual.
    :ivar long: True if it takes too long for every day.
    :ivar seeds: How many there are of it, where all of them are played.
    """

    plays: Mapping[str, tuple[str, ...]]
    streamed: Asks | str
    whole: Asks | str
    settings: Mapping[str, object] = attrs.field(factory=dict)
    windows: tuple[int, int] | None = None
    resting: str = ""
    on_cut: str = ""
    long: bool = False
    seeds: int = 1


ACCOUNTS = "abcdefgw"
"""All accounts a scene may have, in the order of preference."""
NO_MIDDLE = "a whole answer is sent when it is all there; it has no middle"
NO_FIRST = "a whole answer has no first event; its idle clock runs from its head on"
ONE_CLOCK = "a stream's clock is that of its first event"
RESUMES_STREAMS = "only streams are gone on with"
NO_TERMINATOR = "a whole answer has no terminator"
GOOD = ("good",)
BY_A = (Ask("a"),)
BY_B = (Ask("ab"),)
AGAIN_THEN_B = (Ask("aab"),)
"""One retry at most while another account is free."""
RESUMED = (Ask("ab", headed="a"),)
"""The head of an answer is out when another account goes on with it."""
OPENS = (Ask("aab"), Ask("aab"), Ask("aab"), Ask("b"))
"""Three faults in a row, and the account is left alone."""


def _clock(name: str) -> Mapping[str, object]:
    seconds = LONGER if name == "response_headers" else SHORT
    return {"timeouts": {name: seconds}}


def _spared(play: str, asks: Asks | str, whole: Asks | str | None = None, **more: object) -> Scene:
    """Return a scene in which another account would answer."""
    plays = {"a": (play,), "b": GOOD}
    return Scene(plays, asks, asks if whole is None else whole, **more)  # type: ignore[arg-type]


def _alone(play: str, asks: Asks | str, whole: Asks | str | None = None, **more: object) -> Scene:
    """Return a scene in which nobody else could answer."""
    return Scene({"a": (play,)}, asks, asks if whole is None else whole, **more)  # type: ignore[arg-type]


def _gives_up(status: int, code: str | None = None) -> Asks:
    """Four attempts a request; the third of such requests is the last, for a while."""
    each = error("aaaa", status, code)
    last = attrs.evolve(each, later=True)
    return (each, each, last, error("", 503, "no_account", later=True))


CATALOGUE: Mapping[str, Mapping[str, Scene]] = {
    "429-hint": {
        "spare": _spared("429, back in 60", (Ask("ab"), Ask("b")), resting="a"),
        "alone": Scene({"a": ("429, back in 1", "good")}, (Ask("aa"),), (Ask("aa"),)),
        "long": _alone(
            "429, back in 60",
            (error("a", 429, later=True), error("", 429, "no_account", later=True)),
            resting="a",
        ),
        "returns": Scene(
            {"a": ("429, back in 1", "good"), "b": GOOD},
            (Ask("ab"), Ask("a", after=1.2)),
            (Ask("ab"), Ask("a", after=1.2)),
        ),
    },
    "429-ever": {
        "spare": _spared("429", (Ask("ab"), Ask("b")), resting="a"),
        "all": Scene(
            {"a": ("429",), "b": ("429",)},
            (error("ab", 429, later=True), error("", 429, "no_account", later=True)),
            (error("ab", 429, later=True), error("", 429, "no_account", later=True)),
            resting="ab",
        ),
        # Five more accounts are asked at most.
        "last of six": Scene(
            {**dict.fromkeys("abcde", ("429",)), "f": GOOD},
            (Ask("abcdef"),),
            (Ask("abcdef"),),
            resting="abcde",
        ),
        "seven": Scene(
            dict.fromkeys("abcdefg", ("429",)),
            # One is free, so that nobody has to wait.
            (error("abcdef", 429),),
            (error("abcdef", 429),),
            resting="abcdef",
        ),
    },
    "500-once": {
        "spare": Scene({"a": ("500", "good"), "b": GOOD}, (Ask("aa"),), (Ask("aa"),)),
        "alone": Scene({"a": ("500", "good")}, (Ask("aa"),), (Ask("aa"),)),
    },
    "503-ever": {
        "spare": _spared("503", OPENS, resting="a"),
        "alone": _alone("503", _gives_up(503), resting="a"),
        "returns": Scene(
            {"a": (*["503"] * 6, "good"), "b": GOOD},
            (*OPENS, Ask("a", after=6.0), Ask("a")),
            (*OPENS, Ask("a", after=6.0), Ask("a")),
            long=True,
        ),
    },
    "reset-early": {
        "spare": _spared("reset", AGAIN_THEN_B),
        "alone": _alone("reset", (error("aaaa", 502, "upstream_reset"),)),
    },
    "silent": {
        "spare": _spared("silence", BY_B, settings=_clock("response_headers")),
        "alone": _alone(
            "silence",
            (error("a", 504, "response_headers_timeout"),),
            settings=_clock("response_headers"),
        ),
    },
    "slow-first": {
        "spare": _spared("head only", BY_B, NO_FIRST, settings=_clock("first_event")),
        "alone": _alone(
            "head only",
            (error("a", 504, "first_event_timeout"),),
            NO_FIRST,
            settings=_clock("first_event"),
        ),
        "in time": _spared("slow", BY_A),
        "whole": _spared("head only", ONE_CLOCK, BY_B, settings=_clock("idle")),
    },
    "cut": {
        "spare": _spared(
            "cut", (*[told("a", "upstream_truncated")] * 3, Ask("b")), OPENS, resting="a"
        ),
        "early": _spared("cut early", AGAIN_THEN_B),
        "resumed": _spared("cut", RESUMED, AGAIN_THEN_B, on_cut="resume"),
    },
    "stalled": {
        "spare": _spared("stall", (told("a", "idle_timeout"),), BY_B, settings=_clock("idle")),
    },
    "malformed": {
        "midway": _spared("garbage", (told("a", "garbled_record", "failed"),), AGAIN_THEN_B),
        "first": _spared("garbage first", AGAIN_THEN_B),
    },
    "no-done": {"spare": _spared("unterminated", BY_A, NO_TERMINATOR)},
    "context": {
        "spare": _spared("too long", (error("a", 400),)),
        "wider": Scene(
            {"a": ("too long",), "b": GOOD, "w": GOOD},
            (Ask("aw"),),
            (Ask("aw"),),
            windows=(1000, 2000),
        ),
        "no wider": Scene(
            {"a": ("too long",), "b": GOOD, "w": GOOD},
            (error("a", 400),),
            (error("a", 400),),
            windows=(1000, 1000),
        ),
    },
    "filter": {
        "refused": Scene(
            {"a": ("filtered",), "b": GOOD, "w": GOOD}, (error("a", 400),), (error("a", 400),)
        ),
        "midway": Scene(
            {"a": ("filtered midway",), "b": GOOD, "w": GOOD},
            (Ask("a", "filtered"),),
            (Ask("a", "filtered"),),
        ),
    },
    "cut-prefill": {
        "told": Scene(
            {"a": ("cut",), "w": ("no prefill",)},
            (told("a", "upstream_truncated"),),
            (Ask("aaw"),),
        ),
        "resumed": Scene(
            {"a": ("cut",), "w": ("no prefill",)},
            (Ask("aw", headed="a"),),
            (Ask("aaw"),),
            on_cut="resume",
        ),
        # What another one says is no continuation of what was said.
        "not resumed": Scene(
            {"a": ("cut",), "w": ("another, no prefill",)},
            (attrs.evolve(told("aw", "upstream_truncated"), by="a"),),
            RESUMES_STREAMS,
            on_cut="resume",
        ),
        "early": Scene({"a": ("cut early",), "w": ("no prefill",)}, (Ask("aaw"),), (Ask("aaw"),)),
    },
    "accounting": {
        "cut early": _spared("cut early", AGAIN_THEN_B),
        "limited": Scene(
            {"a": ("429",), "b": ("429",), "w": GOOD}, (Ask("abw"),), (Ask("abw"),), resting="ab"
        ),
    },
    "error-first": {
        "limited": _spared("limited first", (Ask("ab"), Ask("b")), resting="a"),
        "busy": _spared("busy first", AGAIN_THEN_B),
        "alone": _alone("limited first", (error("a", 429, later=True),), resting="a"),
    },
    "error-mid": {
        "spare": _spared("busy midway", (told("a", "", "failed"),), NO_MIDDLE),
    },
    "gzip": {
        "good": _spared("gzip", BY_A),
        "cut": _spared("gzip cut", (told("a", "upstream_truncated"),), AGAIN_THEN_B),
    },
    "html-502": {
        "spare": _spared("html", AGAIN_THEN_B),
        "alone": _alone("html", (error("aaaa", 502),)),
    },
    "short-body": {
        "spare": _spared("short", (told("a", "upstream_truncated"),), AGAIN_THEN_B),
        "at its end": _spared("short by its end", (told("a", "upstream_truncated"),), AGAIN_THEN_B),
    },
    "split": {
        "spare": _spared("split", BY_A),
        "each": _spared("split once", BY_A, long=True, seeds=48),
    },
}
"""By fault and scene. ``flapping`` is played on a clock of its own, see `ELSEWHERE`."""


ELSEWHERE = {"flapping": "tests.faults.test_circuits"}
"""Faults that another module plays, for every pair as well."""

FAULTS: Mapping[str, str] = {
    "429-hint": "429 with `Retry-After`",
    "429-ever": "429 for ever, without `Retry-After`",
    "500-once": "500 once",
    "503-ever": "503 for ever",
    "reset-early": "connection reset before the headers",
    "silent": "no answer at all",
    "slow-first": "headers, then a slow first token",
    "cut": "stream cut in the middle",
    "stalled": "stream stalled",
    "malformed": "a malformed event",
    "no-done": "terminator missing though complete (`[DONE]`, `message_stop`)",
    "context": "context length exceeded",
    "filter": "content filter",
    "cut-prefill": "stream cut, and the fallback rejects prefill",
    "flapping": "flapping primary",
    "accounting": "accounting on failover",
    "error-first": "an error object as first event of a 200",
    "error-mid": "an error in the middle of a stream",
    "gzip": "gzip",
    "html-502": "an HTML page with status 502",
    "short-body": "a body shorter than its length",
    "split": "multi-byte text split anywhere",
}
"""All faults there are, in the order of the documentation, in its words."""

VERBATIM = "verbatim"
"""Stands for an upstream that speaks the client's dialect: its bytes are passed on."""

_NO_END = (told("a", "upstream_truncated"),)
_BLOCKED = (Ask("a", "filtered"),)
OTHERWISE: Mapping[tuple[str, str, str], Asks] = {
    # A verbatim relay changes no byte once it has begun: not even one that is no JSON.
    ("malformed", "midway", VERBATIM): (Ask("a", "passed on"),),
    # What was passed on cannot be taken back; the error comes behind it.
    ("short-body", "at its end", VERBATIM): (
        Ask("a", "told late", code="upstream_truncated", how="truncated"),
    ),
    # Their end is the last record they have: without it the stream is cut.
    ("no-done", "spare", "responses"): _NO_END,
    ("no-done", "spare", "gemini"): _NO_END,
    # Google refuses a prompt in a 200.
    ("filter", "refused", "gemini"): _BLOCKED,
}
"""What differs, by fault, scene and upstream. It is so of streams."""
_WHOLE_TOO = frozenset({"filter"})
"""Faults of which the same is true of whole answers."""


@attrs.frozen
class Cell:
    """
    One scene between one client and one upstream.

    :ivar client: Its dialect's short name; so *upstream*.
    :ivar seed: Of everything that is left to chance.
    """

    fault: str
    name: str
    client: str
    upstream: str
    streamed: bool = True
    seed: int = 0

    @property
    def scene(self) -> Scene:
        """Return the scene."""
        return CATALOGUE[self.fault][self.name]

    @property
    def model(self) -> str:
        """Return the model that is asked for: its name is what picks the fault."""
        way = "stream" if self.streamed else "whole"
        name = self.name.replace(" ", "-")
        return f"fault-{self.fault}.{name}.{self.client}.{self.upstream}.{way}.{self.seed}"

    @property
    def verbatim(self) -> bool:
        """Say whether both sides speak one dialect."""
        return self.client == self.upstream

    @property
    def reason(self) -> str:
        """Return why it is not played, or nothing."""
        usual = self.scene.streamed if self.streamed else self.scene.whole
        return usual if isinstance(usual, str) else ""

    @property
    def asks(self) -> Asks:
        """Return what is to come of it, request by request; nothing if it is not played."""
        usual = self.scene.streamed if self.streamed else self.scene.whole
        if isinstance(usual, str):
            return ()
        if not self.streamed and self.fault not in _WHOLE_TOO:
            return usual
        sides = (VERBATIM, self.upstream) if self.verbatim else (self.upstream,)
        found = (OTHERWISE.get((self.fault, self.name, side)) for side in sides)
        return next((asks for asks in found if asks is not None), usual)

    @property
    def waits(self) -> bool:
        """Say whether it takes its time."""
        return bool(self.scene.settings) or any(ask.after for ask in self.asks)

    @property
    def stand_in(self) -> str:
        """Return who speaks for the model that stands in: another upstream each time."""
        names = list(SPEAKERS)
        return names[(names.index(self.upstream) + 1) % len(names)]


def cells(*, streamed: bool = True, seeds: Sequence[int] = (0,), long: bool = False) -> list[Cell]:
    """
    Return every scene for every pair of a client's dialect and an upstream's.

    :param seeds: Each is played, where a scene does not say how many there are.
    :param long: Whether scenes are among them that take long.
    """
    return [
        Cell(fault, name, client, upstream, streamed, seed)
        for fault, scenes in CATALOGUE.items()
        for name, scene in scenes.items()
        if long or not scene.long
        for seed in (range(scene.seeds) if scene.seeds > 1 else seeds)
        for client, upstream in itertools.product(SPEAKERS, SPEAKERS)
    ]


def played(found: Sequence[Cell]) -> list[Cell]:
    """Return those of *found* that are played."""
    return [cell for cell in found if not cell.reason]
