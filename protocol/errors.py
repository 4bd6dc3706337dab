"""What can go wrong with bytes on the wire, split by who is at fault.

::

    ProtocolError
    ├── EncodeError          the caller's fault: a value does not fit its field
    ├── DecodeError          the sender's fault: bytes that version 1 does not allow
    ├── AuthenticationError  the sender's fault: not signed by the key that may sign it
    └── SealError            the sender's fault: a sealed secret that does not open

Every class answers two questions of the caller. None of these errors may have taken
effect: they arise before anything acts on a frame.
"""

from typing import ClassVar

from protocol.codes import Code


class ProtocolError(Exception):
    """Root of this package's errors; never raised itself."""

    retryable: ClassVar[bool] = False
    """The same bytes will fail again."""
    may_have_taken_effect: ClassVar[bool] = False
    """Nothing acts on a frame before it is decoded and verified."""


class EncodeError(ProtocolError):
    """A value does not fit its field; nothing was built."""


class DecodeError(ProtocolError):
    """Bytes that version 1 of the protocol does not allow.

    The one error that arbitrary input can cause in a decoder.
    """

    def __init__(self, code: Code, detail: str) -> None:
        """Keep the refusal code and one sentence about field, value and bound."""
        super().__init__(f"{detail} ({code.name})")
        self.code = code
        self.detail = detail


class AuthenticationError(ProtocolError):
    """A frame, bundle or record is not signed by a key that may sign it."""

    def __init__(self, code: Code, detail: str) -> None:
        """Keep the refusal code and one sentence about what did not hold."""
        super().__init__(f"{detail} ({code.name})")
        self.code = code
        self.detail = detail


class SealError(ProtocolError):
    """A sealed secret does not open with this car's key and context."""
