"""What can go wrong with the embedded broker.

* `BrokerError`: the root; never raised itself.

  * `BrokerSetupError`: what we were told cannot work: no broker program, a directory
    that cannot be written, a name that is none of the fleet's. A person must act.
  * `BrokerStartError`: the program started and gave up; quotes its own log.
  * `BrokerDiedError`: it had been running and ended although nobody asked it to.

None of these is about a message, so none may have taken effect.
"""

from typing import ClassVar


class BrokerError(Exception):
    """The root of everything that the embedded broker raises."""

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing anything."""
    may_have_taken_effect: ClassVar[bool] = False
    """Whether the other side may have acted although this error was raised."""


class BrokerSetupError(BrokerError):
    """The broker cannot be started as it is configured; nothing was started."""


class BrokerStartError(BrokerError):
    """The broker gave up while starting; no process is left."""

    def __init__(self, message: str, *, is_port_taken: bool = False) -> None:
        super().__init__(message)
        self.is_port_taken = is_port_taken
        """Whether another program has the port; another port may do."""


class BrokerDiedError(BrokerError):
    """A broker that had been running is gone; its clients have lost their links."""

    retryable = True
