"""
The loads a gateway is put under, and what one run of each is asked to tell.

It turns names such as ``st100`` into the generator's options; it starts nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

PROMPT = "Hello there, please write a short story about a turtle."


@dataclasses.dataclass(frozen=True)
class Scenario:
    """
    One load.

    :ivar kind: ``chat``, ``messages``, ``gemini`` or ``health``.
    :ivar clients: Connections at once, each with one request at a time.
    :ivar events: Events of each stream; 0: whole answers.
    :ivar gap: Milliseconds between two events; 0: as fast as they are taken.
    :ivar ramp: Milliseconds over which the clients come.
    :ivar each: Requests of each client; 0: as many as the time allows.
    """

    kind: str
    clients: int
    events: int = 0
    gap: int = 0
    ramp: int = 0
    each: int = 0

    @property
    def title(self) -> str:
        """Return what it is, for people."""
        if self.kind == "health":
            return f"GET /health, {self.clients} connections"
        if not self.events:
            return f"{self.kind}, whole answers, {self.clients} connections"
        pace = f"{self.gap} ms apart" if self.gap else "at full speed"
        return f"{self.kind}, {self.clients} streams of {self.events} events {pace}"

    @property
    def unit(self) -> str:
        """Return what is counted: ``event`` or ``request``."""
        return "event" if self.events else "request"

    def options(self, *, key: str, seconds: int) -> list[str]:
        """Return the generator's options."""
        options = ["-c", str(self.clients), "-d", str(seconds), "-g", "15", "-p", self._path()]
        for name, value in self._headers(key).items():
            options += ["-H", f"{name}: {value}"]
        if self.kind == "health":
            return [*options, "-m", "GET"]
        options += ["-b", json.dumps(self._body())]
        numbers = (("-n", self.each), ("-R", self.ramp), ("-e", self.events))
        return options + [
            word for flag, number in numbers if number for word in (flag, str(number))
        ]

    @property
    def _model(self) -> str:
        # The fake provider reads its orders in the model's name: it survives any gateway.
        return f"fake-c{self.events or 100}-d{self.gap}-s16-l0"

    def _path(self) -> str:
        if self.kind == "gemini":
            verb = "streamGenerateContent?alt=sse" if self.events else "generateContent"
            return f"/v1beta/models/{self._model}:{verb}"
        paths = {"chat": "/v1/chat/completions", "messages": "/v1/messages"}
        return paths.get(self.kind, "/health")

    def _body(self) -> dict[str, object]:
        if self.kind == "gemini":
            return {"contents": [{"role": "user", "parts": [{"text": PROMPT}]}]}
        body = {"model": self._model, "messages": [{"role": "user", "content": PROMPT}]}
        return {**body, "max_tokens": 1024, **({"stream": True} if self.events else {})}

    def _headers(self, key: str) -> Mapping[str, str]:
        headers = {"Authorization": f"Bearer {key}"}
        if self.kind == "messages":
            headers |= {"anthropic-version": "2023-06-01", "Model-Provider": "claude-custom"}
        if self.kind == "gemini":
            headers |= {"Model-Provider": "gemini-custom"}
        return headers


SCENARIOS = {
    "health": Scenario("health", 64),
    "ns1": Scenario("chat", 1),
    "ns16": Scenario("chat", 16),
    "ns64": Scenario("chat", 64),
    "ns256": Scenario("chat", 256),
    "st10": Scenario("chat", 10, events=100, gap=20, ramp=100, each=1),
    "st100": Scenario("chat", 100, events=100, gap=20, ramp=500, each=1),
    "st1000": Scenario("chat", 1000, events=100, gap=20, ramp=2000, each=1),
    "fast16": Scenario("chat", 16, events=500),
    "cl_ns16": Scenario("messages", 16),
    "cl_fast16": Scenario("messages", 16, events=500),
    "ge_ns16": Scenario("gemini", 16),
    "ge_fast16": Scenario("gemini", 16, events=500),
}
"""By name: ns whole answers, st paced streams, fast streams at full speed; cl and ge are
the same in the Messages and the Gemini dialect."""

USUAL = "health,ns16,ns64,st100,fast16"
