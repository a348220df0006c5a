"""
Models of the operator's own naming: the list in ``custom_models.json``.

It reads and checks them, and sees to it that a name means one model. How a request is
led to one is for the policy to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiclient2api.config import pool_keys as keys
from aiclient2api.config.files import Reading
from aiclient2api.config.provider_names import ProviderNames
from aiclient2api.config.values import Given, Place, name_shown
from aiclient2api.values import CustomModel, Sampling


def custom_models(
    listed: Sequence[Any], *, label: str, place: Place, reading: Reading, names: ProviderNames
) -> tuple[CustomModel, ...]:
    """
    Return the models that can be used; what is wrong with others is noted.

    :param label: The file's name.
    """
    taken: dict[str, str] = {}
    found = []
    for at, item in enumerate(listed):
        model = _model(Given(f"{label}: [{at}]", item, place), reading, names, taken)
        if model is not None:
            found.append(model)
    return tuple(found)


def _model(
    given: Given, reading: Reading, names: ProviderNames, taken: dict[str, str]
) -> CustomModel | None:
    """
    Return one model, or None.

    :param taken: Where each name stands that has its model already; added to.
    """
    findings = reading.findings
    values = given.value
    if isinstance(values, dict):
        # Forms write "" for a field that was left empty.
        values = {key: value for key, value in values.items() if value != ""}
    part = reading.part(Given(given.where, values, given.place), keys.MODEL_KEYS)
    read = {key.name: part.take(key) for key in keys.MODEL_KEYS}
    if not isinstance(values, dict):
        return None
    name, alias = read["id"].strip(), read["alias"].strip()
    provider = read["actual_provider"].strip() or read["provider"].strip()
    for key, value, wanted in (
        (keys.MODEL_ID, name, "the name that clients ask for"),
        (keys.ACTUAL_PROVIDER, provider, "the provider that answers"),
    ):
        written = part.given(key)
        spelt = key.also[0] if key.also else key.name
        if not value and (written is None or isinstance(written.value, str)):
            findings.fault(f"{given.where}.{spelt}: is missing; write {wanted}")
    if not name or not provider or not names.is_configured(provider, given.where):
        return None
    first = taken.setdefault(name, given.where)
    if first != given.where:
        findings.warn(f"{given.where}.id: {first} has it already; this model is left out")
        return None
    first = taken.setdefault(alias, given.where) if alias else given.where
    if first != given.where:
        findings.warn(
            f"{given.where}.alias: {name_shown(alias)} is what {first} is called; it is left out"
        )
    owner = read["provider"].strip()
    if owner and not names.is_configured(owner, f"{given.where}.provider"):
        owner = ""
    return CustomModel(
        id=name,
        provider=provider,
        model=read["actual_model"].strip() or name,
        alias=alias if alias and first == given.where and alias != name else None,
        owner=owner or None,
        name=read["name"],
        description=read["description"],
        context=read["context_length"],
        sampling=Sampling(
            temperature=read["temperature"], top_p=read["top_p"], max_tokens=read["max_tokens"]
        ),
    )
