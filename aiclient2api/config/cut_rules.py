"""
What to do with a stream that broke off, read from ``on_cut``.

It reads and checks the operator's words; what they mean while running is said in `cut_routes`.
"""

from __future__ import annotations

from aiclient2api.config import pool_keys as keys
from aiclient2api.config.files import Reading
from aiclient2api.config.key import is_comment
from aiclient2api.config.provider_names import ProviderNames, is_pattern
from aiclient2api.config.values import Given, name_shown
from aiclient2api.cut_routes import OnCut


def on_cut(reading: Reading, names: ProviderNames) -> OnCut:
    """
    Return what is to be done.

    A key that is the name of a provider, or of a kind of them, is a provider; any other is a
    model or a pattern.
    """
    given = reading.given(keys.ON_CUT)
    read = reading.take(keys.ON_CUT)
    if given is None or not isinstance(read, dict):
        return OnCut(str(read))
    providers: dict[str, str] = {}
    models: dict[str, str] = {}
    for name, value in read.items():
        if is_comment(name) or value is None:
            continue
        item = Given(f"{given.where}.{name_shown(name)}", value, given.place)
        word = reading.read(item, keys.CUT_WORD, keys.CUT_WORD.default)
        if is_pattern(name) or not names.is_kind(name):
            models[name] = word
            continue
        names.check(name, item.where)
        # A name of one's own counts more than that of its kind, wherever it stands.
        for provider in names.all_of(name):
            if provider == name:
                providers[provider] = word
            else:
                providers.setdefault(provider, word)
    return OnCut(providers=providers, models=models)
