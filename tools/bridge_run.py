"""``freefloat bridge run``: the bridge itself.

A thin shell around `bridge.bootstrap`: it reads or makes the settings, says where the
API is, and turns signals into a clean end.
"""

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Final

import click

from bridge.bootstrap import open_bridge
from bridge.interpreter import settle
from bridge.observation import LogFormat
from bridge.settings import Settings, load_settings
from tools.address import DEFAULT_PORT, BrokerAddress, ListenAddress
from tools.bridge_settings import DEFAULT_API, local_settings
from tools.console import examples, facts, json_option, print_json, step
from tools.leaving import run_unjoined
from tools.structured_log import configure_log

LOG_FORMAT: Final = "%(asctime)s %(message)s"

SETTINGS_EXAMPLE: Final = """\b
Settings file:
  [fleet]
  directory = "fleet"
  [broker]
  host = "127.0.0.1"
  port = 8883
  [store]
  path = "bridge.sqlite"
  [api]
  port = 8080
  keys_file = "api.keys"
  [[sinks.webhook]]
  name = "billing"
  url = "https://billing.example/hooks/freefloat"
  secret_file = "billing.secret"
"""


@click.command(
    epilog=examples(
        "freefloat bridge run --fleet fleet --broker 127.0.0.1:8883",
        "freefloat bridge run --fleet fleet --json-lines events.jsonl",
        "freefloat bridge run --config bridge.toml",
    )
    + "\n\n"
    + SETTINGS_EXAMPLE
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Settings in TOML; excludes the options below, but for --quiet and --json.",
)
@click.option(
    "--fleet",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="A fleet directory as 'freefloat certs init' makes it.",
)
@click.option(
    "--broker",
    type=BrokerAddress(),
    help=f"Where the broker listens.  [default: 127.0.0.1:{DEFAULT_PORT}]",
)
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the database, the API key and the webhook secret lie; made if it is "
    "not there.  [default: bridge-state]",
)
@click.option(
    "--api",
    type=ListenAddress(),
    help="Where the API listens; port 0 lets the system choose.  "
    "[default: 127.0.0.1:8080]",
)
@click.option(
    "--json-lines",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Append every event to this file.",
)
@click.option("--webhook", metavar="URL", help="Post every event to this URL.")
@click.option("--quiet", is_flag=True, help="Do not print a line for each frame.")
@json_option
def run(
    config: Path | None,
    fleet: Path | None,
    broker: tuple[str, int] | None,
    state: Path | None,
    api: tuple[str, int] | None,
    json_lines: Path | None,
    webhook: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run the bridge until Ctrl-C.

    Give either --config, or --fleet and what differs from the defaults. With --fleet,
    the state directory gets an API key and a webhook secret of its own, mode 0600.
    """
    short = (broker, state, api, json_lines, webhook)
    if config is not None and (fleet is not None or any(short)):
        raise click.UsageError("--config already says what the other options would say")
    if config is None and fleet is None:
        raise click.UsageError("give --config FILE or --fleet DIR")
    settings = (
        load_settings(config)
        if config is not None
        else local_settings(
            fleet or Path(),
            state=state or Path("bridge-state"),
            broker=broker or ("127.0.0.1", DEFAULT_PORT),
            api=api or DEFAULT_API,
            json_lines=json_lines,
            webhook=webhook,
        )
    )
    configure_log(
        level=logging.WARNING if quiet else logging.INFO,
        text=LOG_FORMAT,
        is_structured=settings.log.format is LogFormat.JSON,
    )
    run_unjoined(_run(settings, as_json=as_json))


async def _run(settings: Settings, *, as_json: bool) -> None:
    stop = asyncio.Event()
    starting = asyncio.current_task()
    is_started = False

    def told_to_stop() -> None:
        # What it waits for at its start may be a database whose name has no address.
        if not (is_started or stop.is_set()) and starting is not None:
            starting.cancel()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told_to_stop)
    try:
        async with open_bridge(settings) as running:
            is_started = True
            _announce(settings, running.api_url, as_json=as_json)
            settle()
            await running.wait(stop)
    except asyncio.CancelledError:
        if is_started:
            raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    if not as_json:
        step("bridge stopped: everything that was received is stored")


def _announce(settings: Settings, api_url: str, *, as_json: bool) -> None:
    broker = f"{settings.broker.host}:{settings.broker.port}"
    if as_json:
        print_json(
            {
                "api": api_url,
                "keys_file": settings.api.keys_file,
                "broker": broker,
                "store": settings.store.url or settings.store.path,
                "pid": os.getpid(),
            }
        )
        return
    step("bridge runs; Ctrl-C ends it")
    facts(
        {
            "API": api_url,
            "API key": settings.api.keys_file or "none: open to this machine",
            "broker": broker,
            "store": settings.store.url or settings.store.path,
        }
    )
