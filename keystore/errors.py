"""What can go wrong with a key that lies in a file or in a token.

::

    KeystoreError
    ├── UriError      the URI names no key: a mistake in a setting
    ├── TokenError    the token, its module or its PIN; a person must act
    └── UnfitKeyError the key is missing, of the wrong kind, or can be taken out
"""

from typing import ClassVar


class KeystoreError(Exception):
    """Root of this package's errors; never raised itself. Nothing was signed."""

    retryable: ClassVar[bool] = False
    """Whether the same call may succeed a little later."""
    may_have_taken_effect: ClassVar[bool] = False
    """Whether a signature exists although the call failed."""

    def __init__(self, sentence: str, advice: str = "") -> None:
        """Keep what is wrong and what a person can do about it."""
        super().__init__(sentence)
        self.advice = advice


class UriError(KeystoreError):
    """A ``pkcs11:`` URI cannot be read or does not name one key."""


class TokenError(KeystoreError):
    """The module, the token or its PIN does not work."""


class UnfitKeyError(KeystoreError):
    """The key is missing, of a kind that signs nothing here, or can be taken out."""
