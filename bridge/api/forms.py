"""Forms of the texts that callers send, and what a person is told who misses one.

A regular expression says nothing to most people; each has a sentence beside it.
"""

from typing import Final

HEX_ID: Final = r"^[0-9a-f]{32}$"
CARD_UID: Final = r"^([0-9a-f]{8}|[0-9a-f]{14}|[0-9a-f]{20})$"
PIN: Final = r"^[0-9]{4,8}$"
FUEL_CARD_PIN: Final = r"^[0-9]{1,8}$"
LANGUAGE: Final = r"^[a-z]{2}$"

SENTENCES: Final = {
    HEX_ID: "must be 32 lower-case hexadecimal digits",
    CARD_UID: "must be 8, 14 or 20 lower-case hexadecimal digits",
    PIN: "must be 4 to 8 digits",
    FUEL_CARD_PIN: "must be 1 to 8 digits",
    LANGUAGE: "must be two lower-case letters, such as en",
}
"""What is said of a text that has not the form."""
