"""How many refusals one key gets answered: replayed frames must not cost bandwidth.

Refusals are signed but stored nowhere (protocol-design.md 1.2); without a bound,
whoever replays old frames to a car would make it sign and send for ever. A refusal that
is not sent is one that the sender learns from its own timeout and the next HELLO.
"""

from dataclasses import dataclass
from typing import Final

from gateway.core.moment import Moment

ANSWERS_BURST: Final = 8
"""Answers that one key gets at once: two for each lane in use."""

ANSWER_PERIOD_MS: Final = 1_000
"""After the burst, one answer in this time."""

_KEYS_LIMIT: Final = 64
"""Keys remembered: twice the keys of a bundle (`protocol.trust.KEYS_LIMIT`)."""


@dataclass(slots=True)
class _Allowance:
    left: int
    at_ms: int


class AnswerLimit:
    """Counts answers for each key."""

    def __init__(self) -> None:
        self._allowances: dict[bytes, _Allowance] = {}

    def allows(self, key_id: bytes, *, now: Moment) -> bool:
        """Return whether this key gets another answer, and count it if so."""
        allowance = self._allowances.get(key_id)
        if allowance is None:
            if len(self._allowances) >= _KEYS_LIMIT:
                self._allowances.clear()
            allowance = _Allowance(ANSWERS_BURST, now.boot_ms)
            self._allowances[key_id] = allowance
        earned = max(now.boot_ms - allowance.at_ms, 0) // ANSWER_PERIOD_MS
        if earned:
            allowance.left = min(ANSWERS_BURST, allowance.left + earned)
            allowance.at_ms = now.boot_ms
        if not allowance.left:
            return False
        allowance.left -= 1
        return True
