"""An order for a new signing key, left by somebody at the car for the agent.

The agent alone may write the ledger that names the new key, so a command beside it can
only ask. Whoever may write the car's data directory may ask.
"""

import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from gateway.ports import Clock, KeyringError, StoreError
from gateway.storage.files import sync_directory

ORDER_NAME: Final = "rotate-key"
"""The order's file, beside the ledger."""

LOOK_PERIOD_MS: Final = 5_000
"""Between two looks: an engineer waits, and a look costs one call of the system."""

_LOG: Final = logging.getLogger(__name__)


class KeyOrder:
    """The order beside one ledger.

    Args:
        ledger: the ledger's file.
    """

    def __init__(self, ledger: Path) -> None:
        """Keep the place; nothing is read."""
        self.path = ledger.with_name(ORDER_NAME)

    def give(self) -> None:
        """Leave the order; one that lies there is enough.

        Raises:
            OSError: it cannot be written.
        """
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.close(descriptor)
        sync_directory(self.path.parent)

    @property
    def is_given(self) -> bool:
        """Whether an order waits."""
        return self.path.exists()

    def withdraw(self) -> None:
        """Take the order away; no error if there is none."""
        self.path.unlink(missing_ok=True)

    async def follow(self, rotate: Callable[[], Awaitable[None]], clock: Clock) -> None:
        """Carry out orders until cancelled.

        An order goes when it was carried out, so that one which a power cut interrupts
        is carried out again: a key more does no harm.

        Args:
            rotate: `gateway.bootstrap.Gateway.rotate_key`.
            clock: time.

        Raises:
            StoreError: the ledger failed; the agent ends by it too.
        """
        while True:
            if self.is_given:
                await self._carry_out(rotate)
            await clock.sleep_until(clock.now().boot_ms + LOOK_PERIOD_MS)

    async def _carry_out(self, rotate: Callable[[], Awaitable[None]]) -> None:
        try:
            await rotate()
        except KeyringError as error:
            _LOG.error("= the order for a new key fails: %s", error)
        except StoreError as error:
            if not error.retryable:
                raise
            _LOG.warning("= the order for a new key waits: %s", error)
            return
        self.withdraw()
