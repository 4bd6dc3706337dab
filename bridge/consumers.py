"""From the settings to the sinks that they name."""

import importlib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Final

from bridge.errors import SettingsError
from bridge.fleet_files import read_secret
from bridge.ports import WallClock
from bridge.settings import KafkaSettings, Settings
from bridge.sinks.json_lines import JsonLinesSink
from bridge.sinks.ports import Sink
from bridge.sinks.webhook import WebhookSink
from bridge.traces import trace_parent

SECRET_LIMIT: Final = 1_024
"""Bytes of a file of webhook secrets."""

OPTIONS_LIMIT: Final = 16_384
"""Bytes of a file of librdkafka's options."""


def make_sinks(settings: Settings, *, now: WallClock) -> list[Sink]:
    """Return every sink of the settings, not opened yet.

    Raises:
        SettingsError: a file cannot be used, or an extra is not installed.
    """
    return list(_sinks(settings, now))


def _sinks(settings: Settings, now: WallClock) -> Iterator[Sink]:
    sinks = settings.sinks
    parent = None if settings.tracing is None else trace_parent
    for lines in sinks.json_lines:
        yield JsonLinesSink(lines.name, Path(lines.path))
    for hook in sinks.webhook:
        secrets = SecretFile(Path(hook.secret_file))
        yield WebhookSink(
            hook.name,
            hook.url,
            secrets.lines,
            timeout_s=hook.timeout_s,
            now=now,
            trace_parent=parent,
        )
    if sinks.jetstream:
        jetstream = _optional("bridge.sinks.jetstream", "jetstream")
        for stream in sinks.jetstream:
            yield jetstream.JetStreamSink(stream, parent)
    if sinks.kafka:
        kafka = _optional("bridge.sinks.kafka", "kafka")
        for topic in sinks.kafka:
            yield kafka.KafkaSink(topic, _options(topic), parent)


class SecretFile:
    """A file of secrets that may be replaced while the bridge runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._lines: tuple[str, ...] = ()

    def lines(self) -> tuple[str, ...]:
        """Return the lines that are not empty; read only when the file has changed.

        Raises:
            SettingsError: it cannot be read, or others can read it too.
        """
        try:
            status = self._path.stat()
        except OSError as error:
            raise SettingsError(
                f"{self._path} cannot be read: {error.strerror}",
                advice="check the path and its owner",
            ) from error
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp != self._stamp:
            text = read_secret(self._path, SECRET_LIMIT).decode("ascii", "replace")
            self._lines = tuple(line.strip() for line in text.split() if line.strip())
            self._stamp = stamp
        return self._lines


def _optional(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SettingsError(
            f"sinks.{extra} needs a library that is not installed: {error}",
            advice=f"install freefloat with the extra `{extra}`",
        ) from error


def _options(settings: KafkaSettings) -> dict[str, str | int | bool]:
    if settings.options_file is None:
        return {}
    path = Path(settings.options_file)
    try:
        raw = tomllib.loads(read_secret(path, OPTIONS_LIMIT).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"{path} is not TOML: {error}",
            advice='write lines like "security.protocol" = "ssl"',
        ) from error
    for key, value in raw.items():
        if not isinstance(value, str | int | bool):
            raise SettingsError(
                f"{path}: {key} is no text, number or truth value",
                advice='put names with dots into quotes: "ssl.ca.location" = "..."',
            )
    return raw
