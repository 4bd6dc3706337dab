"""Settings of the log."""

from enum import StrEnum, unique

import msgspec


@unique
class LogFormat(StrEnum):
    """How a line of the log is written."""

    TEXT = "text"
    """For people."""
    JSON = "json"
    """One JSON object a line: time, level, logger, event, message; car and msg_id where
    there are some."""


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The log."""

    format: LogFormat = LogFormat.TEXT
    """text or json."""
