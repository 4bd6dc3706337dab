"""A log of JSON objects, one a line: for machines that collect logs.

``event`` names what happened and holds no data: it is what a line says whatever it is
said of, unless the line names its event itself. ``message`` is the line as people read
it. Nothing is in a structured line that is not in the other (K25).
"""

import json
import logging
import re
from datetime import UTC, datetime
from typing import Final

EVENT_LIMIT: Final = 64
"""Characters of an event's name."""

_DATA: Final = re.compile(r"%[-#0 +]*[\d*]*(?:\.[\d*]+)?[a-zA-Z%]")
_NOT_WORDS: Final = re.compile(r"[^a-z0-9]+")
_FIELDS: Final = ("car", "msg_id")
_CAR: Final = re.compile(r"\.([A-Z2-7]{4,26})$")
"""A car's log is named by its vehicle."""


class StructuredFormatter(logging.Formatter):
    """Writes a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, object] = {
            "time": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": getattr(record, "event", None) or event_of(str(record.msg)),
            "message": record.getMessage(),
        }
        named = _CAR.search(record.name)
        if named is not None:
            line["car"] = named[1]
        for name in _FIELDS:
            value = getattr(record, name, None)
            if isinstance(value, str):
                line[name] = value
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def event_of(template: str) -> str:
    """Return the name of what a line says, without what it says it of."""
    words = _NOT_WORDS.sub("_", _DATA.sub(" ", template).lower()).strip("_")
    return words[:EVENT_LIMIT].rstrip("_") or "frame"


def configure_log(*, level: int, text: str, is_structured: bool) -> None:
    """Send the log to stderr; `text` is the form of a line for people."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        StructuredFormatter() if is_structured else logging.Formatter(text)
    )
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("alembic.runtime.migration").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """Return whether alembic says more than which database it sees, at each start."""
    return not str(record.msg).startswith(("Context impl", "Will assume"))


def _time(seconds: float) -> str:
    at = datetime.fromtimestamp(seconds, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"
