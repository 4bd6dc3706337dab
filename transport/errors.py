"""What can go wrong on the way to the broker, split by who is at fault.

* `TransportError`: the root; never raised itself.

  * `TlsSetupError`: our own certificate files cannot be used. A person must act.
  * `CollectorSetupError`: traces are wanted and their library is not installed.
  * `LinkError`: the medium, the broker or its configuration. Try again later.

    * `OutcomeUnknownError`: a message left us and no answer came. Unknown is not
      failed (reliability.md L10): resend the same bytes, the receiver deduplicates.

  * `RefusedError`: the broker understood and said no. Trying again changes nothing.

    * `PublishRefusedError`: a publish.
    * `SubscriptionRefusedError`: a subscription.

Every class answers `retryable` and `may_have_taken_effect`, the two questions that a
caller has (the vocabulary is that of Tesla's vehicle-command).
"""

import enum
from typing import ClassVar


@enum.unique
class LinkFailure(enum.StrEnum):
    """Why there is no link; for counters and for the words in a status line."""

    NAME = "name"
    """The broker's host name has no address."""
    UNREACHABLE = "unreachable"
    """Nothing answers at host and port."""
    DOWN = "down"
    """The machine answers and nothing listens at the port: the broker does not run."""
    TLS = "tls"
    """The two sides do not accept each other's certificates or TLS versions."""
    REFUSED = "refused"
    """The broker answered CONNECT with a refusal, or closed instead of answering."""
    TIMEOUT = "timeout"
    """An answer did not come in time."""
    LOST = "lost"
    """A connection that had been established ended."""
    TAKEN_OVER = "taken over"
    """Another connection took our client id."""


class TransportError(Exception):
    """The root of everything that transport raises."""

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing anything."""
    may_have_taken_effect: ClassVar[bool] = False
    """Whether the other side may have acted although this error was raised."""


class TlsSetupError(TransportError):
    """A certificate, key or trust file of ours cannot be used; nothing was sent."""


class CollectorSetupError(TransportError):
    """What sends traces cannot be set up; nothing was started."""

    def __init__(self, message: str, *, advice: str) -> None:
        super().__init__(message)
        self.advice = advice
        """What to do about it."""


class LinkError(TransportError):
    """There is no link, or there is none any more; nothing was sent by this call."""

    retryable = True

    def __init__(self, message: str, *, failure: LinkFailure) -> None:
        super().__init__(message)
        self.failure = failure
        """Why; for the caller's counters."""


class OutcomeUnknownError(LinkError):
    """The message was handed to the connection; whether it arrived is unknown."""

    may_have_taken_effect = True


class RefusedError(TransportError):
    """The broker refused one request; the link stays as it was."""


class PublishRefusedError(RefusedError):
    """The broker refused a publish; it delivered the message to nobody."""


class SubscriptionRefusedError(RefusedError):
    """The broker refused a subscription; other filters of the call may be in force."""
