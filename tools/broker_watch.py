"""``freefloat broker watch``: who tries what a broker refuses, as an alarm (row 23)."""

import logging
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO, Final

import click

from bridge.broker.trespass import LOOK_S, Deed, TrespassJudge
from tools.address import ListenAddress
from tools.console import examples, step
from tools.errors import OperatorError

LOG_FORMAT: Final = "%(asctime)s %(message)s"
LINE_LIMIT: Final = 4096
"""Bytes of a line that are read at once; the rest of a longer one is another line."""

_LOG: Final = logging.getLogger(__name__)


@click.command(
    short_help="Count and name who tries what a broker refuses.",
    epilog=examples(
        "journalctl --follow --lines 0 --output cat --unit mosquitto | "
        "freefloat broker watch --metrics 127.0.0.1:9465",
    ),
)
@click.option(
    "--metrics",
    type=ListenAddress(),
    metavar="HOST:PORT",
    help="Where Prometheus asks GET /metrics; nothing listens without it.",
)
def watch(metrics: tuple[str, int] | None) -> None:
    """Read a broker's log from standard input, and name who is refused.

    The log of nats-server, or of a mosquitto that has loaded the observer of
    deploy/mosquitto-plugin; without that, of mosquitto only those are named who throw
    one another off. Ends with 1 when the log ends, so that a service starts it again.
    """
    logging.basicConfig(format=LOG_FORMAT, level=logging.INFO)
    figures = TrespassFigures()
    if metrics is not None:
        figures.serve(*metrics)
    step("watching the broker's log; Ctrl-C ends it")
    judge, forgotten_s = TrespassJudge(), 0.0
    for line in _lines(sys.stdin.buffer):
        now_s = time.monotonic()
        if now_s - forgotten_s >= LOOK_S:
            judge.forget(now_s)
            forgotten_s = now_s
        if (trespass := judge.judge(line, now_s)) is not None:
            _LOG.warning("= %s", trespass)
            figures.count(trespass.deed)
    raise OperatorError(
        "the broker's log ended, so nobody is watched any more",
        "start this again, behind a command that follows the log",
    )


class TrespassFigures:
    """What Prometheus is told; no label names a vehicle."""

    def __init__(self) -> None:
        """Begin every count at zero, so that the first one is seen as a rise.

        Raises:
            OperatorError: prometheus-client is not installed.
        """
        try:
            import prometheus_client  # noqa: PLC0415 - only this needs it, and a bridge
        except ImportError as error:
            raise OperatorError(
                "watching needs the Python package prometheus-client",
                "pip install 'freefloat[bridge]'",
            ) from error
        self._server = prometheus_client
        self.registry = prometheus_client.CollectorRegistry()
        self._counted = prometheus_client.Counter(
            "freefloat_broker_trespasses",
            "Names that tried what the broker refuses, each once a minute.",
            ("deed",),
            registry=self.registry,
        )
        for deed in Deed:
            self._counted.labels(deed.value)

    def count(self, deed: Deed) -> None:
        """Count one."""
        self._counted.labels(deed.value).inc()

    def serve(self, host: str, port: int) -> None:
        """Answer in a thread of its own until the process ends.

        Raises:
            OperatorError: the address cannot be listened on.
        """
        try:
            self._server.start_http_server(port, host, self.registry)
        except OSError as error:
            raise OperatorError(
                f"{host}:{port} cannot be listened on: {error.strerror or error}",
                "choose another address with --metrics",
            ) from error


def _lines(file: BinaryIO) -> Iterator[str]:
    while line := file.readline(LINE_LIMIT):
        yield line.decode("utf-8", "replace")
