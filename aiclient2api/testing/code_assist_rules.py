"""
What the real Code Assist refuses in a request's body, and how it says so.

Written from what its own client sends and from what users were answered. It knows nothing
of sockets, nor of who asks: `fake_code_assist` does.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from aiclient2api.testing.code_assist_answers import google_error

BYPASS = "skip_thought_signature_validator"

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
_ENVELOPE = frozenset(("model", "project", "user_prompt_id", "request", "enabled_credit_types"))
# Inside of it everything is camelCase, but for one.
_REQUEST = frozenset(
    (
        "contents",
        "systemInstruction",
        "cachedContent",
        "tools",
        "toolConfig",
        "labels",
        "safetySettings",
        "generationConfig",
        "session_id",
    )
)
_METADATA = frozenset(
    (
        "ideType",
        "ideName",
        "ideVersion",
        "pluginType",
        "pluginVersion",
        "platform",
        "updateChannel",
        "duetProject",
    )
)
_ENUMS = {
    "ideType": {
        "IDE_UNSPECIFIED",
        "VSCODE",
        "INTELLIJ",
        "VSCODE_CLOUD_WORKSTATION",
        "INTELLIJ_CLOUD_WORKSTATION",
        "CLOUD_SHELL",
        "GEMINI_CLI",
    },
    "platform": {
        "PLATFORM_UNSPECIFIED",
        "DARWIN_AMD64",
        "DARWIN_ARM64",
        "LINUX_AMD64",
        "LINUX_ARM64",
        "WINDOWS_AMD64",
    },
    "pluginType": {
        "PLUGIN_UNSPECIFIED",
        "CLOUD_CODE",
        "GEMINI",
        "AIPLUGIN_INTELLIJ",
        "AIPLUGIN_STUDIO",
    },
    "mode": {"MODE_UNSPECIFIED", "FULL_ELIGIBILITY_CHECK", "HEALTH_CHECK"},
}
_PARTS = (
    "text",
    "functionCall",
    "functionResponse",
    "inlineData",
    "fileData",
    "executableCode",
    "codeExecutionResult",
)
_UNSIGNED = (
    "Function call is missing a thought_signature in functionCall parts. This is required for "
    "tools to work correctly, and missing thought_signature may lead to degraded model "
    "performance."
)
_UNEVEN = (
    "Please ensure that the number of function response parts is equal to the number of "
    "function call parts of the function call turn."
)


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, *details: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.status = status
        self.body = google_error(status, message, *details)


def check_project(project: Any, usable: Collection[str], where: str) -> None:
    """Refuse a project that is none, or that the account may not use."""
    if not isinstance(project, str) or not project:
        raise Refused(400, f"Invalid value at '{where}': a project id must not be empty.")
    if project.isdigit():
        raise Refused(400, f"Invalid project resource name projects/{project}: not a project id.")
    if project == "default":
        raise Refused(403, "Permission denied on resource project default.")
    if project not in usable:
        raise Refused(403, "The caller does not have permission")


def check_load(body: Any, usable: Collection[str]) -> None:
    """Refuse what is no ``loadCodeAssist``."""
    _known(body, ("cloudaicompanionProject", "metadata", "mode"), "")
    _check_metadata(body, usable)
    _check_enum(body, "mode")
    if "cloudaicompanionProject" in body:
        check_project(body["cloudaicompanionProject"], usable, "cloudaicompanion_project")


def check_onboard(body: Any, usable: Collection[str], tiers: Collection[str]) -> None:
    """Refuse what is no ``onboardUser``, and a free tier with a project of one's own."""
    _known(body, ("tierId", "cloudaicompanionProject", "metadata"), "")
    if body.get("tierId") not in tiers:
        raise Refused(400, "Invalid value at 'tier_id': there is no such tier for this account.")
    own = body.get("cloudaicompanionProject", body.get("metadata", {}).get("duetProject"))
    if body["tierId"] == "free-tier":
        if own is not None:
            raise Refused(412, "Precondition Failed")
    elif own is None:
        raise Refused(400, "A cloudaicompanion_project is required for this tier.")
    _check_metadata(body, usable)
    if "cloudaicompanionProject" in body:
        check_project(body["cloudaicompanionProject"], usable, "cloudaicompanion_project")


def check_of_project(body: Any, usable: Collection[str], *more: str) -> None:
    """Refuse what names no project, in a call that takes *more* besides."""
    _known(body, ("project", *more), "")
    check_project(body.get("project"), usable, "project")


def check_generate(
    body: Any, usable: Collection[str], models: Collection[str], issued: Collection[str]
) -> None:
    """
    Refuse what is no ``generateContent``.

    :param models: Those there are.
    :param issued: The signatures that this service has given away.
    """
    _known(body, _ENVELOPE, "")
    for name in ("model", "project", "request"):
        if not body.get(name):
            raise Refused(400, f"Request contains an invalid argument: {name} is required.")
    if body["model"] not in models:
        raise Refused(404, "Requested entity was not found.")
    check_project(body["project"], usable, "project")
    request = body["request"]
    _known(request, _REQUEST, "request")
    contents = _contents(request)
    for number, content in enumerate(contents):
        _check_content(content, f"request.contents[{number}]")
    _check_answers(contents)
    _check_tools(request.get("tools") or ())
    thinking = (request.get("generationConfig") or {}).get("thinkingConfig") or {}
    if "thinkingBudget" in thinking and "thinkingLevel" in thinking:
        raise Refused(400, "You can only set only one of thinking budget and thinking level.")
    _check_signatures(contents, issued, needed=body["model"].startswith("gemini-3"))


def check_count(body: Any, models: Collection[str]) -> None:
    """Refuse what is no ``countTokens``."""
    _known(body, ("request",), "")
    request = body.get("request")
    _known(request, ("model", "contents"), "request")
    model = request.get("model")
    if not isinstance(model, str) or not model.startswith("models/"):
        raise Refused(400, "Invalid value at 'request.model': it must begin with models/.")
    if model.removeprefix("models/") not in models:
        raise Refused(404, "Requested entity was not found.")
    for number, content in enumerate(_contents(request)):
        where = f"request.contents[{number}]"
        _check_content(content, where)
        for part in content["parts"]:
            if "thought" in part:
                raise _unknown("thought", f"{where}.parts")


def _check_metadata(body: Mapping[str, Any], usable: Collection[str]) -> None:
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        raise Refused(400, "Request contains an invalid argument: metadata is required.")
    _known(metadata, _METADATA, "metadata")
    for name in ("ideType", "platform", "pluginType"):
        _check_enum(metadata, name)
    if "duetProject" in metadata:
        check_project(metadata["duetProject"], usable, "metadata.duet_project")


def _check_enum(holder: Mapping[str, Any], name: str) -> None:
    if name in holder and holder[name] not in _ENUMS[name]:
        raise Refused(400, f"Invalid value at '{name}' (TYPE_ENUM), \"{holder[name]}\"")


def _contents(request: Mapping[str, Any]) -> Sequence[Any]:
    contents = request.get("contents")
    if not isinstance(contents, list) or not contents:
        raise Refused(400, "* GenerateContentRequest.contents: contents is not specified")
    return contents


def _check_content(content: Any, where: str) -> None:
    _known(content, ("role", "parts"), where)
    if content.get("role") not in ("user", "model"):
        raise Refused(400, "Please use a valid role: user, model.")
    parts = content.get("parts")
    if not isinstance(parts, list) or not parts:
        raise Refused(400, f"* GenerateContentRequest.{where}.parts: contents.parts is empty")
    for number, part in enumerate(parts):
        told = [key for key in _PARTS if part.get(key, part.get(_snake(key))) is not None]
        if len(told) != 1:
            raise Refused(
                400,
                f"* GenerateContentRequest.{where}.parts[{number}].data: required oneof field "
                "'data' must have one initialized field",
            )
        called = _of(part, "functionCall") or _of(part, "functionResponse")
        if called is not None:
            _check_name(called.get("name"), f"{where}.parts[{number}].function_call.name")


def _check_name(name: Any, where: str) -> None:
    if not name:
        raise Refused(400, f"* GenerateContentRequest.{where}: Name cannot be empty.")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Refused(
            400,
            f"* GenerateContentRequest.{where}: Invalid function name. Must start with a letter "
            "or an underscore. Must be alphameric (a-z, A-Z, 0-9), underscores (_), dots (.), "
            "colons (:), or dashes (-), with a maximum length of 64.",
        )


def _check_answers(contents: Sequence[Any]) -> None:
    asked = 0
    for content in contents:
        calls = sum(_of(part, "functionCall") is not None for part in content["parts"])
        answers = sum(_of(part, "functionResponse") is not None for part in content["parts"])
        if content["role"] == "user" and answers != asked:
            raise Refused(400, _UNEVEN)
        asked = calls if content["role"] == "model" else 0


def _check_tools(tools: Sequence[Any]) -> None:
    seen: set[str] = set()
    for number, tool in enumerate(tools):
        declared = tool.get("functionDeclarations", tool.get("function_declarations")) or ()
        for place, function in enumerate(declared):
            where = f"tools[{number}].function_declarations[{place}]"
            _check_name(function.get("name"), f"{where}.name")
            if function["name"] in seen:
                raise Refused(400, f"Duplicate function declaration found: {function['name']}")
            seen.add(function["name"])
            if "parameters" in function and "parametersJsonSchema" in function:
                raise Refused(
                    400,
                    f"* GenerateContentRequest.{where}: only one of parameters and "
                    "parameters_json_schema may be set.",
                )


def _check_signatures(contents: Sequence[Any], issued: Collection[str], *, needed: bool) -> None:
    current = 0
    for number, content in enumerate(contents):
        spoken = any(_of(part, "functionResponse") is None for part in content["parts"])
        if content["role"] == "user" and spoken:
            current = number
    for number, content in enumerate(contents):
        first = True
        for part in content["parts"]:
            signature = part.get("thoughtSignature", part.get("thought_signature"))
            if signature is not None and signature != BYPASS and signature not in issued:
                raise Refused(400, "Corrupted thought signature.")
            if _of(part, "functionCall") is None:
                continue
            # Of calls made together only the first is signed.
            if needed and first and number > current and signature is None:
                raise Refused(400, _UNSIGNED)
            first = False


def _known(body: Any, names: Collection[str], where: str) -> None:
    if not isinstance(body, dict):
        raise Refused(400, f"Invalid value at '{where}' (TYPE_MESSAGE)")
    for name in body:
        if name not in names:
            raise _unknown(name, where)


def _unknown(name: str, where: str) -> Refused:
    place = f" at '{where}'" if where else ""
    said = f'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.'
    violation = {"field": where, "description": said}
    detail = {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": [violation]}
    return Refused(400, said, detail)


def _of(part: Mapping[str, Any], name: str) -> Any:
    return part.get(name, part.get(_snake(name)))


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda found: "_" + found[0].lower(), name)
