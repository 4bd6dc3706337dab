"""A wish to exchange the car's own program, left by the updater for the agent (I-17).

Whoever installs programs in the car - a package manager, an engineer - may do so only
while nobody has the car, and nobody may get it meanwhile. The updater leaves the wish
beside the ledger; the agent takes the car out of use as soon as it is free, and says so
by a second file. The wish outlives the agent, which is exchanged under it: the new
program finds it and stays out of use until the updater takes it away.

An updater that died must not keep a car for ever: an hour after the agent first saw a
wish it lets go of it.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from gateway.core.events import Event, UpdateBegan, UpdateEnded
from gateway.core.state import State
from gateway.ports import Clock
from gateway.storage.files import sync_directory

WISH_NAME: Final = "update-wished"
"""The updater's file, beside the ledger."""

GRANT_NAME: Final = "update-granted"
"""The agent's file: the car is out of use."""

LOOK_PERIOD_MS: Final = 5_000
"""Between two looks: the updater waits, and a look costs one call of the system."""

LONGEST_MS: Final = 3_600_000
"""How long a wish counts after it was first seen; an exchange takes minutes
(assumed)."""

_LOG: Final = logging.getLogger(__name__)


class UpdateOrder:
    """The wish beside one ledger, and its answer.

    Args:
        ledger: the ledger's file.
    """

    def __init__(self, ledger: Path) -> None:
        """Keep the places; nothing is read."""
        self.wish = ledger.with_name(WISH_NAME)
        self.grant = ledger.with_name(GRANT_NAME)

    def begin(self) -> None:
        """Leave the wish; one that lies there is enough.

        Raises:
            OSError: it cannot be written.
        """
        _touch(self.wish)

    def end(self) -> None:
        """Take the wish away; no error if there is none."""
        self.wish.unlink(missing_ok=True)

    @property
    def is_granted(self) -> bool:
        """Whether the agent has taken the car out of use for it."""
        return self.wish.exists() and self.grant.exists()

    async def follow(
        self, report: Callable[[Event], None], state: Callable[[], State], clock: Clock
    ) -> None:
        """Let the car follow the wish until cancelled.

        Args:
            report: takes events, as `gateway.bootstrap.Gateway.report`.
            state: the state that stands.
            clock: time.

        A disk that takes no answer leaves the updater without one; it is tried again.
        """
        seen_ms: int | None = None
        while True:
            now_ms = clock.now().boot_ms
            if not self.wish.exists():
                seen_ms = None
            elif seen_ms is None:
                seen_ms = now_ms
            elif now_ms - seen_ms >= LONGEST_MS:
                _LOG.error("= an update that began an hour ago never ended: given up")
                self.end()
            try:
                self._follow_once(report, is_updating=state().updating)
            except OSError as error:
                _LOG.warning("= an update cannot be answered: %s", error.strerror)
            await clock.sleep_until(now_ms + LOOK_PERIOD_MS)

    def _follow_once(
        self, report: Callable[[Event], None], *, is_updating: bool
    ) -> None:
        wished = self.wish.exists()
        if wished and not is_updating:
            self.grant.unlink(missing_ok=True)
            # Refused while somebody has the car; asked again at the next look.
            report(UpdateBegan())
        elif wished and not self.grant.exists():
            _LOG.info("= out of use for an update")
            _touch(self.grant)
        elif not wished and is_updating:
            self.grant.unlink(missing_ok=True)
            report(UpdateEnded())


def _touch(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.close(descriptor)
    sync_directory(path.parent)
