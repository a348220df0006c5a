"""The sandbox before every official SDK: without any account, in all four dialects."""

from __future__ import annotations

from typing import Any

import attrs

from tests.live.gateway import LiveGateway
from tests.live.sdk import RESULTS, Sdk
from tests.live.sdk_case import SdkCase
from tests.live.test_conversions import SDKS


class SandboxCase(SdkCase):
    """What the sandbox is asked in one dialect."""

    async def begin(self) -> Any:
        """Start a gateway that has nothing but the sandbox; return a client of it."""
        config = {"request_max_retries": 0}
        gateway = await LiveGateway(self, default="sandbox", config=config).start()
        return self.client(gateway)

    def asked(self, name: str, model: str) -> dict[str, Any]:
        """Return a question of the table, put to one of the sandbox's models."""
        return {**self.sdk.asked[name], "model": model}


async def talks(case: SandboxCase) -> None:
    """It repeats what was said, whole, streamed and gathered alike."""
    client, sdk = await case.begin(), case.sdk
    asked = case.asked("plain", "sandbox-fast")
    said = "This is the sandbox; no model was asked. You said: Wie geht es dir? 你好 😀"
    case.assertEqual(said, sdk.read(await case.call(sdk.whole, client, asked)).text)
    events, error = await case.call(case.drain, client, asked)
    case.assertIsNone(error)
    seen = sdk.fold(events)
    case.assertEqual((said, sdk.finish["stop"]), (seen.text, seen.finish))
    # Whoever keeps answers gives each an id of its own.
    gathered = attrs.evolve(sdk.read(await case.call(sdk.gathered, client, asked)), id=seen.id)
    case.assertEqual(seen, gathered)


async def calls_tools(case: SandboxCase) -> None:
    """It calls what it is offered, and says what it got back."""
    client, sdk = await case.begin(), case.sdk
    asked = case.asked("tools", "sandbox-tool")
    reply = await case.call(sdk.gathered, client, asked)
    (call,) = sdk.read(reply).calls
    case.assertEqual(("get_weather", '{"city": "example"}'), (call.name, call.arguments))
    again = sdk.follow_up(asked, reply, {call.id: RESULTS["call_1"]})
    final = sdk.read(await case.call(sdk.gathered, client, again))
    case.assertEqual(f"The tool answered: {RESULTS['call_1']}", final.text)


async def thinks(case: SandboxCase) -> None:
    """Its thoughts come apart from its words."""
    client, sdk = await case.begin(), case.sdk
    asked = case.asked("plain", "sandbox-think")
    seen = sdk.read(await case.call(sdk.gathered, client, asked))
    case.assertIn("I need not think hard", seen.thinking)
    case.assertNotIn("I need not think hard", seen.text)


async def refuses(case: SandboxCase) -> None:
    """Its errors are the library's own exceptions."""
    client, sdk = await case.begin(), case.sdk
    for status in (400, 401, 404, 500):
        for ask in (sdk.whole, sdk.stream):
            asked = case.asked("plain", f"sandbox-{status}")
            error = await case.call(_error_of, case, ask, client, asked)
            case.assertIsInstance(error, sdk.refusals[status])


async def breaks_off(case: SandboxCase) -> None:
    """An answer that it cuts is never taken for a whole one."""
    client, sdk = await case.begin(), case.sdk
    for model in ("sandbox-cut", "sandbox-reset", "sandbox-error"):
        events, error = await case.call(case.drain, client, case.asked("plain", model))
        case.assertFalse(sdk.ended(events), model)
        case.assertTrue(error is not None or sdk.troubles(events), model)


def _error_of(case: SandboxCase, ask: Any, client: Any, asked: Any) -> Exception:
    try:
        list(ask(client, asked))
    except Exception as error:
        return error
    raise case.failureException("nothing was raised")


def _cell(situation: Any) -> Any:
    async def test(self: SandboxCase) -> None:
        await situation(self)

    test.__doc__ = situation.__doc__
    return test


_SITUATIONS = (talks, calls_tools, thinks, refuses, breaks_off)


def _tests(name: str, sdk: Sdk) -> type[SandboxCase]:
    cells = {f"test_{each.__name__}": _cell(each) for each in _SITUATIONS}
    told = {"__doc__": f"A client of {name}.", "__module__": __name__, "sdk": sdk}
    return type(f"{name.title()}SandboxTests", (SandboxCase,), {**told, **cells})


globals().update({f"{name.title()}SandboxTests": _tests(name, sdk) for name, sdk in SDKS.items()})
