"""
What real clients send is understood by the dialect it is written in, and left alone.

Sans-IO: bodies in, the same bytes out. What `tests.live` does with the same requests
over sockets is not looked at here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from urllib.parse import parse_qsl, unquote

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.dialects.all import DIALECTS
from aiclient2api.errors import InvalidRequest
from aiclient2api.interfaces import IDialect, IWireRequest
from aiclient2api.values import Endpoint, Route
from tests.recordings import CLIENTS, Recording, all_recordings

_WRITINGS = ((True, False), (True, True), (False, False), (False, True))
"""Tight or spaced, escaped or not."""


def _speakers(recording: Recording) -> Iterator[tuple[IDialect, Endpoint, str]]:
    """Yield who answers on a recording's path, with what is left of the path."""
    for dialect in DIALECTS:
        for endpoint in dialect.endpoints:
            stem, variable, _ = endpoint.path.partition("<path:rest>")
            if endpoint.method != recording.method:
                continue
            if recording.path == stem and not variable:
                yield dialect, endpoint, ""
            elif variable and recording.path.startswith(stem):
                yield dialect, endpoint, unquote(recording.path.removeprefix(stem))


def _chosen(recording: Recording) -> tuple[IDialect, Route]:
    """Return the dialect that takes a recording, and how it reads the URL."""
    headers = {name.encode(): value.encode() for name, value in recording.headers}
    speakers = list(_speakers(recording))
    claimed = [each for each in speakers if each[0].claims(headers=headers)]
    dialect, endpoint, rest = (claimed or speakers)[0]
    query = parse_qsl(recording.query, keep_blank_values=True)
    return dialect, dialect.route(endpoint=endpoint, rest=rest, query=query, headers=headers)


def _told(recording: Recording) -> tuple[str | None, str, str, bool, str]:
    return (
        recording.dialect,
        recording.action,
        recording.model,
        recording.streaming,
        recording.framing,
    )


def _read(request: IWireRequest) -> tuple[str, str, str, bool, str]:
    return (request.dialect, request.action, request.model, request.streaming, request.framing)


class RecordedBodiesTests(SynchronousTestCase):
    """Every recorded body is parsed, however its client writes JSON."""

    def setUp(self) -> None:
        posts = [each for each in all_recordings() if each.body is not None]
        self.posts = [each for each in posts if not each.malformed]
        self.malformed = [each for each in posts if each.malformed]

    def test_the_recordings_cover_every_dialect_and_framing(self) -> None:
        """No dialect goes untested because its recordings got lost."""
        seen = Counter((each.dialect, each.framing) for each in self.posts)
        self.assertEqual(10, len(CLIENTS))
        for dialect in DIALECTS:
            for framing in ("whole", "sse"):
                self.assertGreater(seen[dialect.name, framing], 5, (dialect.name, framing))
        self.assertGreater(seen["gemini", "json_array"], 0)

    def test_each_is_read_as_what_its_client_meant(self) -> None:
        """Dialect, action, model and stream are those the client asked for."""
        for recording in self.posts:
            dialect, route = _chosen(recording)
            request = dialect.parse(body=recording.as_bytes(), route=route)
            self.assertEqual(_told(recording), _read(request), recording.name)
            self.assertTrue(dialect.request_interface.providedBy(request), recording.name)

    def test_each_body_stays_as_it_was_written(self) -> None:
        """Not a byte changes: spacing, escapes, key order and unknown fields survive."""
        for recording in self.posts:
            dialect, route = _chosen(recording)
            for tight, escaped in _WRITINGS:
                body = recording.as_bytes(tight=tight, escaped=escaped)
                request = dialect.parse(body=body, route=route)
                self.assertEqual(body, request.to_bytes(), recording.name)
                self.assertEqual(body, request.amended(model=recording.model).to_bytes())

    def test_what_no_upstream_would_take_is_refused(self) -> None:
        """A client that sends nonsense is told which field is wrong."""
        self.assertEqual(["err_bad_json"], [each.case for each in self.malformed])
        dialect, route = _chosen(self.malformed[0])
        body = self.malformed[0].as_bytes()
        error = self.assertRaises(InvalidRequest, dialect.parse, body=body, route=route)
        self.assertEqual("messages", error.param)

    def test_each_has_a_prompt_to_log(self) -> None:
        """The prompt log finds something to say of every request that has a text."""
        silent = []
        for recording in self.posts:
            dialect, route = _chosen(recording)
            request = dialect.parse(body=recording.as_bytes(), route=route)
            if not request.prompt_text():
                silent.append(recording.name)
        self.assertEqual([], silent)


class RecordedListsTests(SynchronousTestCase):
    """``GET /v1/models`` is one path for three dialects."""

    def test_each_list_is_asked_for_in_the_clients_own_dialect(self) -> None:
        """The headers tell an OpenAI, an Anthropic and a Gemini client apart."""
        told = {
            recording.client: (dialect.name, route.action)
            for recording in all_recordings()
            if recording.method == "GET"
            for dialect, route in [_chosen(recording)]
        }
        self.assertEqual(
            {
                "anthropic-python": ("anthropic-messages", "models"),
                "google-genai-python": ("gemini", "models"),
                "openai-python-chat": ("openai-chat", "models"),
            },
            told,
        )
