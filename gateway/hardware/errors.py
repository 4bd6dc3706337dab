"""What can be wrong with a device when it is opened.

::

    DeviceError
    └── DeviceUnavailableError   no such port, no access, in use by another program

A device that goes away while the gateway runs is an event (`BoardLost`, `ReaderLost`)
and no error.
"""

from typing import ClassVar


class DeviceError(Exception):
    """Root of this package's errors; never raised itself."""

    retryable: ClassVar[bool] = True
    """A device can be plugged in."""
    may_have_taken_effect: ClassVar[bool] = False
    """Nothing was sent to it."""


class DeviceUnavailableError(DeviceError):
    """A device cannot be opened; nothing is held."""

    def __init__(self, device: str, reason: str, advice: str) -> None:
        """Keep which device, what the system says and what to do."""
        super().__init__(f"{device}: {reason}")
        self.advice = advice
