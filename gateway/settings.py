"""What an operator tells a gateway: one TOML file, checked before anything starts.

::

    identity = "vehicle"          # the car's directory, from `freefloat certs issue`
    data = "data"                 # where the ledger lives
    display = "emulated"

    [broker]
    host = "broker.example"
    port = 8883

    [reader]
    path = "usb:054c:06c3"        # or tty:S0:pn532, or udp:127.0.0.1:54321

    [board]
    port = "/dev/ttyS1"

    [enrolment]                   # who renews the TLS certificate
    host = "enrol.example"
    port = 8443

    [positioning]                 # only in a car with a receiver
    port = "/dev/ttyS2"
    baud = 9600

    [restarts]                    # after crashes; these are the defaults
    first_wait_s = 5
    longest_wait_s = 900
    stable_s = 600

    [log]
    format = "text"               # or json: one object a line

    [tracing]                     # spans to a collector; needs the extra `tracing`
    url = "https://collector.example/v1/traces"

Relative paths are relative to the file. An unknown key is an error: a misspelt one
would otherwise silently leave a default in force.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from gateway.core.restart_storm import Patience
from transport.collector import TracingSettings

FILE_LIMIT: Final = 64 * 1024
"""Bytes of the settings file; a mistaken path must not be read whole."""

_READER_KINDS: Final = ("udp", "tty", "usb")

_SHOWN_VALUE: Final = 60
"""Characters of a wrong value that a message repeats."""

Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Baud = Annotated[int, msgspec.Meta(ge=1_200, le=921_600)]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=1_024)]


class SettingsError(Exception):
    """The settings cannot be used; nothing was started."""

    retryable = False
    """A person must correct the file."""
    may_have_taken_effect = False
    """They are read first."""


class BrokerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the broker is."""

    host: Text
    """Name or address; its certificate must name it."""
    port: Port = 8883
    """TCP port of MQTT over TLS."""
    other_hosts: tuple[Text, ...] = ()
    """Tried in this order, at the same port, where host gives no link."""


class EnrolmentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the enrolment service is (`freefloat certs serve`)."""

    host: Text
    """Name or address; its certificate must name it."""
    port: Port = 8443
    """TCP port of HTTPS."""


class ReaderSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the card reader is."""

    path: Text
    """As nfcpy names readers: usb:..., tty:..., udp:HOST:PORT."""


class BoardSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the board is."""

    port: Text
    """Its serial port."""


class PositioningSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the positioning receiver is."""

    port: Text
    """Its serial port; it sends NMEA 0183."""
    baud: Baud = 9_600
    """Its speed, bit/s; what such receivers start with."""


class RestartSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How an agent that crashes again and again is started (I-30)."""

    first_wait_s: Seconds = 5
    """Before the start after the second crash in a row; doubles with each."""
    longest_wait_s: Seconds = 900
    """Before any start."""
    stable_s: Seconds = 600
    """A run as long as this ends the counting; a reduced one lasts as long at least."""

    @property
    def patience(self) -> Patience:
        """The same for the mind."""
        stable_ms = round(self.stable_s * 1_000)
        usual = Patience()
        return Patience(
            first_wait_ms=round(self.first_wait_s * 1_000),
            longest_wait_ms=round(self.longest_wait_s * 1_000),
            settled_ms=min(usual.settled_ms, stable_ms),
            stable_ms=stable_ms,
            reduced_ms=stable_ms,
            longest_reduced_ms=max(usual.longest_reduced_ms, stable_ms),
        )


class LogSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The log."""

    format: Literal["text", "json"] = "text"
    """For people, or one JSON object a line: time, level, logger, event, message, car,
    and msg_id where there is one."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that a gateway is told."""

    identity: Path
    """The car's identity directory."""
    data: Path
    """Directory of the ledger; made if it does not exist."""
    broker: BrokerSettings
    """Where the broker is."""
    reader: ReaderSettings
    """Where the card reader is."""
    board: BoardSettings
    """Where the board is."""
    enrolment: EnrolmentSettings | None = None
    """Who renews the TLS certificate; without one somebody must do it by hand."""
    positioning: PositioningSettings | None = None
    """Where the positioning receiver is; without one the car knows no position."""
    restarts: RestartSettings = RestartSettings()
    """What is done about crashes."""
    log: LogSettings = LogSettings()
    """How it is written."""
    tracing: TracingSettings | None = None
    """Where spans go; nowhere without it."""
    display: Literal["emulated"] = "emulated"
    """Screen and keypad: emulated until there is a real one."""

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.data / "ledger.db"

    @property
    def recordings(self) -> Path:
        """Where the flight recorder's files lie."""
        return self.data / "recorder"

    @property
    def tls(self) -> Path:
        """Where renewed TLS identities lie."""
        return self.data / "tls"


def load_settings(path: Path) -> Settings:
    """Read and check a settings file.

    Raises:
        SettingsError: names the file, the key, its value and what is allowed.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT + 1)
    except FileNotFoundError:
        raise SettingsError(
            f"settings file {path} does not exist: check the path; deploy/gateway.toml "
            "is an example"
        ) from None
    except OSError as error:
        raise SettingsError(
            f"settings file {path} cannot be read ({error.strerror}): check its mode"
        ) from None
    if len(data) > FILE_LIMIT:
        raise SettingsError(
            f"settings file {path} has more than {FILE_LIMIT} bytes: this is another "
            "file"
        )
    try:
        return parse_settings(data, beside=path.parent)
    except SettingsError as error:
        raise SettingsError(f"settings file {path}: {error}") from None


def parse_settings(data: bytes, *, beside: Path) -> Settings:
    """Read settings from bytes.

    Args:
        data: TOML.
        beside: what relative paths are relative to.

    Raises:
        SettingsError: names the key, its value and what is allowed.
    """
    try:
        table = tomllib.loads(data.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"not TOML: {error}") from None
    try:
        settings = msgspec.convert(table, Settings, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise SettingsError(_sentence(str(error), table)) from None
    _check_reader(settings.reader.path)
    return msgspec.structs.replace(
        settings, identity=beside / settings.identity, data=beside / settings.data
    )


def _path(kind: type, found: object) -> object:
    if kind is Path and isinstance(found, str) and found:
        return Path(found)
    raise ValueError("Expected a path as text")


def _check_reader(path: str) -> None:
    kind, _, rest = path.partition(":")
    if kind not in _READER_KINDS:
        raise SettingsError(
            f"reader.path is {path[:_SHOWN_VALUE]!r}: it must begin with one of "
            f"{', '.join(f'{known}:' for known in _READER_KINDS)}"
        )
    if kind != "udp":
        return
    host, _, port = rest.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):  # noqa: PLR2004 - the largest port there is
        raise SettingsError(
            f"reader.path is {path[:_SHOWN_VALUE]!r}: udp: takes a host and a port "
            "from 1 to 65535, such as udp:127.0.0.1:54321"
        )


def _of(table: object, key: str) -> object:
    return table.get(key) if isinstance(table, dict) else None


def _sentence(error: str, table: dict[str, object]) -> str:
    """Say key, value and rule; msgspec says rule and place."""
    rule, _, place = error.partition(" - at `$")
    keys = [key for key in place.rstrip("`").split(".") if key]
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", rule)
    missing = re.fullmatch(r"Object missing required field `(.*)`", rule)
    if unknown:
        name = ".".join([*keys, unknown[1]])
        return f"unknown key {name}: correct its name or take it out"
    if missing:
        name = ".".join([*keys, missing[1]])
        return f"key {name} is missing: add it"
    found: object = table
    for step in re.findall(r"[^.\[\]]+", ".".join(keys)):
        found = found[int(step)] if isinstance(found, list) else _of(found, step)
    shown = repr(found)[:_SHOWN_VALUE]
    return f"{'.'.join(keys)} is {shown}: {rule[:1].lower()}{rule[1:]}"
