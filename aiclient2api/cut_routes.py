"""
Whether a stream that breaks off is gone on with, by the route it takes.

Pure: the operator's words in, yes or no out. It must never know how that is done.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import attrs

from aiclient2api.policy import matches

ERROR, RESUME = "error", "resume"
WORDS = (ERROR, RESUME)
"""What may become of a stream that broke off; the first is the default."""


@attrs.frozen
class OnCut:
    """
    What the operator wants done, as it stands in the configuration.

    :ivar otherwise: The word for every route that is not named.
    :ivar providers: Configured provider to word.
    :ivar models: Model or pattern to word; each ``*`` stands for any text, also for none.
    """

    otherwise: str = ERROR
    providers: Mapping[str, str] = attrs.field(factory=dict)
    models: Mapping[str, str] = attrs.field(factory=dict)

    def resumes(self, provider: str, names: Sequence[str]) -> bool:
        """
        Say whether an answer is gone on with: by its model's name, else by its provider,
        else by the longest pattern.

        :param provider: Who was chosen to answer.
        :param names: What the model is called, the name that counts most first.
        """
        return self._word(provider, names) == RESUME

    def _word(self, provider: str, names: Collection[str]) -> str:
        for name in names:
            if name in self.models:
                return self.models[name]
        if provider in self.providers:
            return self.providers[provider]
        fitting = (each for each in self.models if any(matches(each, name) for name in names))
        longest = max(fitting, key=len, default=None)
        return self.otherwise if longest is None else self.models[longest]
