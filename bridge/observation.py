"""Settings of what an operator may watch: traces and the log's form."""

from enum import StrEnum, unique
from typing import Annotated

import msgspec


class TracingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Traces of commands and ledger entries; off without this section."""

    url: Annotated[str, msgspec.Meta(pattern=r"^https?://[^\s@]+$", max_length=2_048)]
    """Where a collector takes OTLP over HTTP, such as
    http://127.0.0.1:4318/v1/traces."""
    timeout_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 5.0
    """How long one attempt may take."""


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
