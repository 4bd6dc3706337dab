"""Settings of a bridge on one machine, and the secrets that they need.

`freefloat bridge run --fleet`, the demonstration and tests run such a bridge; a bridge
in production has a settings file instead.
"""

import base64
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from bridge.errors import SettingsError
from bridge.settings import (
    ApiSettings,
    ApprovalSettings,
    BrokerSettings,
    FleetSettings,
    JsonLinesSettings,
    RateSettings,
    Settings,
    SinkSettings,
    StoreSettings,
    WebhookSettings,
)

DEFAULT_API: Final = ("127.0.0.1", 8080)
"""Loopback: nobody else reaches the API unless a person says so."""

KEYS_FILE: Final = "api.keys"
SECRET_FILE: Final = "webhook.secret"  # noqa: S105 - a file's name

PRIVATE: Final = 0o600
"""Mode of a secret's file."""


def local_settings(
    fleet: Path,
    *,
    state: Path,
    broker: tuple[str, int],
    api: tuple[str, int] = DEFAULT_API,
    json_lines: Path | None = None,
    webhook: str | None = None,
) -> Settings:
    """Return settings around a fleet directory, and make the secrets that they need.

    Args:
        fleet: as `freefloat certs init` makes it.
        state: made if missing; gets ``api.keys``, ``webhook.secret`` and the database.
        broker: host and port.
        api: host and port to listen at; port 0 lets the system choose.
        json_lines: a file for events.
        webhook: a URL for events.

    Raises:
        SettingsError: a value is outside its bounds.
        OSError: the state directory cannot be made or written.
    """
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys_file = state / KEYS_FILE
    make_secret(keys_file, secrets.token_urlsafe(32))
    webhooks: tuple[WebhookSettings, ...] = ()
    if webhook is not None:
        secret_file = state / SECRET_FILE
        random = base64.b64encode(secrets.token_bytes(32)).decode("ascii")
        make_secret(secret_file, f"whsec_{random}")
        webhooks = (
            WebhookSettings(name="webhook", url=webhook, secret_file=str(secret_file)),
        )
    lines: tuple[JsonLinesSettings, ...] = ()
    if json_lines is not None:
        lines = (JsonLinesSettings(name="json-lines", path=str(json_lines)),)
    made = Settings(
        fleet=FleetSettings(directory=str(fleet)),
        broker=BrokerSettings(host=broker[0], port=broker[1]),
        store=StoreSettings(path=str(state / "bridge.sqlite")),
        api=ApiSettings(host=api[0], port=api[1], keys_file=str(keys_file)),
        sinks=SinkSettings(json_lines=lines, webhook=webhooks),
        # Its only key drives demonstrations and measurements too.
        rates=RateSettings(person_orders=60_000, calls=600_000, failures=600_000),
        # One person tries it on one machine: there is nobody to ask.
        approvals=ApprovalSettings(required=False),
    )
    return _checked(made)


def make_secret(path: Path, secret: str) -> None:
    """Write a secret into a file of its own, mode 0600; an existing one is kept."""
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{secret}\n")


def _checked(settings: Settings) -> Settings:
    """Hold values of the command line against the same bounds as those of a file."""
    try:
        return msgspec.convert(msgspec.to_builtins(settings), Settings)
    except msgspec.ValidationError as error:
        text = str(error).replace("`", "'")
        raise SettingsError(
            f"{text[:1].lower()}{text[1:]}", advice="see 'freefloat bridge run --help'"
        ) from None
