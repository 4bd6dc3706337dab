"""``HOST:PORT`` on the command line."""

from typing import Final

import click

DEFAULT_PORT: Final = 8883
"""MQTT over TLS (IANA service name secure-mqtt)."""

LAST_PORT: Final = 0xFFFF


class BrokerAddress(click.ParamType[tuple[str, int]]):
    """Reads ``HOST:PORT``; without a port the usual one is meant."""

    name = "HOST:PORT"

    def convert(
        self,
        value: str | tuple[str, int],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, int]:
        """Return host and port, or fail with the rule."""
        if isinstance(value, tuple):
            return value
        host, colon, port = value.rpartition(":")
        if not colon:
            return value, DEFAULT_PORT
        if not host or not port.isdecimal() or not 1 <= int(port) <= LAST_PORT:
            self.fail(
                f"{value!r} is not HOST:PORT with a port from 1 to {LAST_PORT}",
                param,
                ctx,
            )
        return host.strip("[]"), int(port)
