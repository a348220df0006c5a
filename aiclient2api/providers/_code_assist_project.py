"""
Which Google project an account's requests go on, and how an account is taken in for one.

The steps are those of Google's own client. It must never know how a request is sent: it is
given a way to call the service.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred

from aiclient2api.dialects.wire_request import entry, listed
from aiclient2api.errors import Fault, UpstreamError
from aiclient2api.framing.json_text import read
from aiclient2api.framing.json_values import string
from aiclient2api.oauth.sharing import Shared
from aiclient2api.providers._code_assist_faults import (
    changed,
    printable_link,
    validation_needed,
)
from aiclient2api.values import Clock

POLL_SECONDS = 5.0
MOST_POLLS = 24

Call = Callable[[str, Mapping[str, Any] | None], Awaitable[Mapping[str, Any]]]
"""
Calls ``v1internal``: ``:method`` with a body, or ``/operation`` without one.
"""

_METADATA = {
    "ideType": "IDE_UNSPECIFIED",
    "platform": "PLATFORM_UNSPECIFIED",
    "pluginType": "GEMINI",
}
_FREE, _LEGACY, _STANDARD = "free-tier", "legacy-tier", "standard-tier"
_TOLD = 300


@attrs.define(eq=False)
class Projects:
    """The projects that were found, as long as the process runs; each is looked for once."""

    _found: dict[str, str] = attrs.field(factory=dict, init=False)
    _looking: dict[str, Shared[str | UpstreamError]] = attrs.field(factory=dict, init=False)

    async def get(self, key: str, look: Callable[[], Awaitable[str]]) -> str:
        """
        Return the project under *key*; *look* for it unless somebody does.

        Who gives up the wait stops nothing.

        :raise UpstreamError: as *look* does; each who waits gets an error of one's own.
        """

        async def work() -> str | UpstreamError:
            try:
                self._found[key] = await look()
            except UpstreamError as error:
                return error
            finally:
                del self._looking[key]
            return self._found[key]

        if key in self._found:
            return self._found[key]
        if key not in self._looking:
            self._looking[key] = Shared(work)
        result = await self._looking[key].join()
        if isinstance(result, UpstreamError):
            raise changed(result)
        return result


async def discovered(*, whose: str, call: Call, clock: Clock) -> str:
    """
    Find the project of an account that names none; onboard the account if it is new.

    :param whose: The provider's configured name, for messages.
    :return: The project's id.
    :raise UpstreamError: `Fault.PERMISSION` if a person has to do something first, with what;
        `Fault.TIMEOUT` if an onboarding does not come to an end; whatever a call ran into.
    """
    # Fields that are not known are left out: empty ones are refused for some accounts.
    loaded = await _loaded(call)
    tier = entry(loaded, "currentTier")
    project = string(entry(loaded, "cloudaicompanionProject"))
    ineligible = [
        each for each in listed(entry(loaded, "ineligibleTiers")) if isinstance(each, dict)
    ]
    if tier:
        if project:
            return project
        raise _no_project(whose, ineligible)
    for each in ineligible:
        link = printable_link(each.get("validationUrl"))
        if each.get("reasonCode") == "VALIDATION_REQUIRED" and link:
            raise _refused(validation_needed(whose, link), "validation_required")
    offered = next(
        (each for each in listed(entry(loaded, "allowedTiers")) if entry(each, "isDefault")), None
    )
    if offered is None and ineligible:
        raise _no_project(whose, ineligible)
    if offered is not None and offered.get("userDefinedCloudaicompanionProject"):
        raise _no_project(whose, ineligible)
    body = {"tierId": string(entry(offered, "id")) or _LEGACY, "metadata": _METADATA}
    found = await _onboarded(whose, call, body, clock)
    if found:
        return found
    raise _no_project(whose, ineligible)


async def _loaded(call: Call) -> Mapping[str, Any]:
    try:
        return await call(":loadCodeAssist", {"metadata": _METADATA})
    except UpstreamError as error:
        if error.reply is not None and _is_locked(read(error.reply.body)):
            # Behind VPC service controls this call is forbidden and the others are not.
            return {"currentTier": {"id": _STANDARD}}
        raise


def _is_locked(body: Any) -> bool:
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    details = listed(entry(entry(body, "error"), "details"))
    return any(entry(each, "reason") == "SECURITY_POLICY_VIOLATED" for each in details)


async def _onboarded(whose: str, call: Call, body: Mapping[str, Any], clock: Clock) -> str:
    """Onboard the account and return the project it got, or ``""``."""
    operation = await call(":onboardUser", body)
    for _ in range(MOST_POLLS):
        if operation.get("done"):
            break
        await _sleep(clock, POLL_SECONDS)
        name = string(operation.get("name"))
        operation = await (call(f"/{name}", None) if name else call(":onboardUser", body))
    if not operation.get("done"):
        raise UpstreamError(
            f"{whose}: Google has not taken this account in for Code Assist within "
            f"{MOST_POLLS * POLL_SECONDS:g} seconds. It is tried again with a later request.",
            fault=Fault.TIMEOUT,
            status=504,
            code="onboarding_timeout",
        )
    failed = entry(operation.get("error"), "message")
    if failed is not None:
        raise _refused(
            f"{whose}: Google does not take this account in for Code Assist: {_said(failed)}. "
            "Log in with Gemini CLI once to see what it wants.",
            "onboarding_failed",
        )
    return string(entry(entry(operation.get("response"), "cloudaicompanionProject"), "id"))


def _no_project(whose: str, ineligible: Sequence[Mapping[str, Any]]) -> UpstreamError:
    reasons = [_said(each.get("reasonMessage") or each.get("reasonCode")) for each in ineligible]
    reasons = [each for each in reasons if each]
    if reasons:
        return _refused(
            f"{whose}: Google does not serve this account: {'; '.join(reasons)}. Use another "
            "account, or a Google Cloud project with Gemini Code Assist in project_id.",
            "ineligible",
        )
    return _refused(
        f"{whose}: this account needs a Google Cloud project of its own: write the project's id "
        "(not its number) into project_id.",
        "project_needed",
    )


def _refused(message: str, code: str) -> UpstreamError:
    return UpstreamError(message, fault=Fault.PERMISSION, status=403, code=code)


def _said(text: Any) -> str:
    """Return what Google says as a piece of a sentence."""
    return " ".join(string(text).split())[:_TOLD].rstrip(". ")


def _sleep(clock: Clock, seconds: float) -> Deferred[None]:
    waiting: Deferred[None] = Deferred(lambda _: call.cancel())
    call = clock.callLater(seconds, waiting.callback, None)
    return waiting
