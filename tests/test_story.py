"""What a trace comes to in words."""

from __future__ import annotations

import json
from datetime import UTC

from twisted.trial.unittest import SynchronousTestCase

from aiclient2api.observe.story import as_json, story, table
from aiclient2api.observe.traces import Trace, TraceError, TraceStep, TraceUsage

ID = "4f2c91d07a6b4c1f9d3e5a7b8c9d0e1f"

TRACE = Trace(
    began=1_700_000_000.25,
    ended=1_700_000_003.464,
    caller="key-1",
    dialect="anthropic-messages",
    asked="claude-sonnet-4-5",
    provider="openai-custom",
    model="gpt-5",
    account="a3",
    attempts=2,
    how="complete",
    usage=TraceUsage(1200, 310, 1024, None, 0),
    error=None,
    steps=[
        TraceStep(0.0, "target", "claude-custom", "claude-sonnet-4-5", "", "default", None),
        TraceStep(
            0.0,
            "skipped",
            "claude-custom",
            "claude-sonnet-4-5",
            "a1",
            "cooling (rate_limit), tried again in 12 s",
            None,
        ),
        TraceStep(0.001, "chosen", "claude-custom", "claude-sonnet-4-5", "a2", "round_robin", None),
        TraceStep(0.87, "attempt", "claude-custom", "claude-sonnet-4-5", "a2", "quota", 429),
        TraceStep(0.871, "target", "openai-custom", "gpt-5", "", "providerFallbackChain", None),
        TraceStep(0.871, "chosen", "openai-custom", "gpt-5", "a3", "round_robin", None),
        TraceStep(3.214, "attempt", "openai-custom", "gpt-5", "a3", "", 200),
        TraceStep(13.214, "ended", "", "", "", "complete", None),
    ],
    left_out=0,
)

STORY = """\
Request 4f2c91d07a6b4c1f9d3e5a7b8c9d0e1f
  began       2023-11-14 22:13:20.250+00:00
  asked       for claude-sonnet-4-5 in anthropic-messages, by key-1
  answered    gpt-5 of openai-custom, account a3
  ended       complete after 3.214 s, 2 attempts
  usage       input 1200, output 310, cached 1024, reasoning 0

   +0.000 s  target   claude-custom  model claude-sonnet-4-5 (default)
   +0.000 s  skipped  claude-custom  account a1: cooling (rate_limit), tried again in 12 s
   +0.001 s  chosen   claude-custom  account a2 (round_robin)
   +0.870 s  attempt  claude-custom  account a2 429 (quota)
   +0.871 s  target   openai-custom  model gpt-5 (providerFallbackChain)
   +0.871 s  chosen   openai-custom  account a3 (round_robin)
   +3.214 s  attempt  openai-custom  account a3 200
  +13.214 s  ended                   complete"""


def changed(**changes: object) -> Trace:
    """Return the trace with something else in it."""
    told = {name: getattr(TRACE, name) for name in TRACE.__struct_fields__}
    return Trace(**{**told, **changes})


class StoryTests(SynchronousTestCase):
    """`story`, `table` and `as_json`."""

    def told(self, trace: Trace) -> str:
        """Return the story."""
        return "\n".join(story(ID, trace, UTC))

    def test_the_story(self) -> None:
        """A line for each fact, a line for each step, columns under one another."""
        self.assertEqual(self.told(TRACE), STORY)

    def test_one_that_failed(self) -> None:
        """The error says whose fault it is, and when to come back."""
        error = TraceError("UpstreamError", "quota", 429, "used_up", "All used up.", 12.5)
        told = self.told(changed(how="failed", error=error, usage=None, attempts=1))
        self.assertIn("\n  last tried  gpt-5 of openai-custom, account a3\n", told)
        self.assertIn("\n  ended       failed after 3.214 s, 1 attempt\n", told)
        self.assertIn(
            "\n  error       UpstreamError quota 429 used_up: All used up. "
            "(try again after 12.5 s)\n",
            told,
        )
        self.assertNotIn("usage", told)

    def test_one_that_never_got_far(self) -> None:
        """What is not known is left out."""
        told = self.told(
            changed(
                how="cancelled",
                provider="",
                model="",
                account="",
                asked="",
                caller="",
                usage=None,
                attempts=0,
                steps=[],
            )
        )
        self.assertEqual(
            told.splitlines()[2:],
            [
                "  asked       for no model in anthropic-messages",
                "  ended       cancelled after 3.214 s, 0 attempts",
            ],
        )

    def test_steps_that_were_left_out(self) -> None:
        """There is a line where they were, and it says how many."""
        steps = [TraceStep(float(n), "skipped", "p", "", f"a{n}", "", None) for n in range(4)]
        lines = self.told(changed(steps=steps, left_out=2800)).splitlines()
        self.assertEqual(lines[-3], "  ... 2800 more steps ...")
        self.assertTrue(lines[-4].endswith("account a1"))
        self.assertTrue(lines[-2].endswith("account a2"))

    def test_a_terminal_is_not_told_what_to_do(self) -> None:
        """Whatever a client calls a model, or an upstream answers."""
        evil = "\x1b]0;owned\x07\n\u202e\x9b31m"
        error = TraceError("UpstreamError", "server", 500, evil, evil, None)
        step = TraceStep(0.0, "target", evil, evil, evil, evil, None)
        trace = changed(
            asked=evil,
            model=evil,
            provider=evil,
            account=evil,
            caller=evil,
            error=error,
            steps=[step],
        )
        for lines in (list(story(evil, trace, UTC)), list(table([(evil, trace)], UTC))):
            self.assertTrue(all(line.isprintable() for line in lines), lines)
            self.assertTrue(any("\\x1b]0;owned\\x07\\n\\u202e\\x9b31m" in line for line in lines))
        self.assertNotIn("\x1b", as_json(evil, trace))

    def test_a_line_each(self) -> None:
        """When, which, what, who, whose, how, how long."""
        other = changed(account="", model="m", how="failed", ended=TRACE.began + 100)
        self.assertEqual(
            list(table([(ID, TRACE), ("other", other)], UTC)),
            [
                f"2023-11-14 22:13:20+00:00  {ID}  gpt-5  openai-custom  a3  complete    3.214 s",
                f"2023-11-14 22:13:20+00:00  {'other':<32}  m      openai-custom  -   failed    "
                "100.000 s",
            ],
        )

    def test_for_programs(self) -> None:
        """All there is, by name, on one line."""
        error = TraceError("UpstreamError", "quota", 429, "used_up", "All\nused up.", 12.5)
        line = as_json(ID, changed(error=error, steps=TRACE.steps[:1]))
        self.assertNotIn("\n", line)
        self.assertEqual(
            json.loads(line),
            {
                "id": ID,
                "began": 1_700_000_000.25,
                "ended": 1_700_000_003.464,
                "caller": "key-1",
                "dialect": "anthropic-messages",
                "asked": "claude-sonnet-4-5",
                "provider": "openai-custom",
                "model": "gpt-5",
                "account": "a3",
                "attempts": 2,
                "how": "complete",
                "usage": {
                    "input": 1200,
                    "output": 310,
                    "cached": 1024,
                    "cache_write": None,
                    "reasoning": 0,
                },
                "error": {
                    "name": "UpstreamError",
                    "fault": "quota",
                    "status": 429,
                    "code": "used_up",
                    "message": "All\nused up.",
                    "retry_after": 12.5,
                },
                "steps": [
                    {
                        "at": 0.0,
                        "what": "target",
                        "provider": "claude-custom",
                        "model": "claude-sonnet-4-5",
                        "account": "",
                        "why": "default",
                        "status": None,
                    }
                ],
                "left_out": 0,
            },
        )
