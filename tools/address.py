"""``HOST:PORT`` on the command line."""

from typing import ClassVar, Final

import click

DEFAULT_PORT: Final = 8883
"""MQTT over TLS (IANA service name secure-mqtt)."""

LAST_PORT: Final = 0xFFFF


class _Address(click.ParamType[tuple[str, int]]):
    name = "HOST:PORT"
    first_port: ClassVar[int]
    default_port: ClassVar[int | None]

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
        if not colon and self.default_port is not None:
            return value, self.default_port
        ports = range(self.first_port, LAST_PORT + 1)
        if not host or not port.isdecimal() or int(port) not in ports:
            self.fail(
                f"{value!r} is not HOST:PORT with a port from {ports.start} to "
                f"{LAST_PORT}",
                param,
                ctx,
            )
        return host.strip("[]"), int(port)


class BrokerAddress(_Address):
    """Reads where a broker is; without a port the usual one is meant."""

    first_port = 1
    default_port = DEFAULT_PORT


class ListenAddress(_Address):
    """Reads where a server of ours shall listen; port 0 lets the system choose."""

    first_port = 0
    default_port = None
