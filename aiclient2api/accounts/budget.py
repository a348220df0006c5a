"""
How much of the traffic may be second tries: what keeps an outage from multiplying load.

Pure, and shared by all exchanges of a gateway.
"""

from __future__ import annotations

import attrs


@attrs.define
class RetryBudget:
    """
    Counts exchanges at work and those of them that are at a further try.

    Only tries after a fault of an upstream's count: an account that has reached its limit
    is not asked again anyway, and the next one has nothing to do with it.

    :ivar share: The part of the exchanges at work that may be at a further try.
    :ivar floor: So many may be, however few are at work.
    """

    share: float = 0.2
    floor: int = 10
    working: int = attrs.field(default=0, init=False)
    trying: int = attrs.field(default=0, init=False)

    def allows(self) -> bool:
        """Say whether one more exchange may try again."""
        return self.trying + 1 <= max(self.floor, self.share * self.working)
