"""``freefloat gateway``: run the agent in a car, or see what it would find.

The composition root of a real car: the one place that joins `gateway.bootstrap` and
`gateway.hardware`.
"""

import asyncio
import logging
import os
import random
import secrets
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import click
from cryptography import x509

from gateway.bootstrap import Gateway, build_gateway
from gateway.hardware import nfc_reader
from gateway.hardware.nfc_reader import NfcReader
from gateway.hardware.nmea_positioning import NmeaPositioning, NoPositioning
from gateway.hardware.serial_board import SerialBoard
from gateway.hardware.terminal_display import TerminalDisplay
from gateway.runtime.endurance import Endurance
from gateway.runtime.parts import AgentRestartError
from gateway.runtime.system_clock import SystemClock, boot_mark
from gateway.runtime.timekeeper import Timekeeper
from gateway.settings import Settings, load_settings
from gateway.storage.failure_note import FailureNote
from gateway.storage.identity import Identity, load_identity
from gateway.storage.key_order import KeyOrder
from gateway.storage.update_order import UpdateOrder
from gateway.storage.worker import ThreadWorker
from gateway.uplink.https_enrolment import HttpsEnrolment
from gateway.uplink.mqtt_links import mqtt_links
from gateway.uplink.renewal import Applicant, Renewal
from gateway.uplink.tls_store import TlsStore
from tools.clock import read_clock, wall_clock
from tools.console import (
    examples,
    heading,
    json_option,
    print_error,
    print_json,
    step,
    warning,
)
from tools.errors import EXIT_FAILED, OperatorError
from tools.gateway_inspection import Finding, inspect, tls_of
from tools.gateway_look import config_option
from tools.gateway_look import inspect as look
from tools.gateway_recorder import explain_command, recorder, replay_command
from tools.gateway_start import count_run, load_patiently
from tools.gateway_update import update
from tools.leaving import run_unjoined
from tools.structured_log import configure_log
from transport.collector import CollectorTracer, Tracer, close_tracer, open_tracer
from transport.errors import CollectorSetupError

EXIT_RESTART: Final = 85
"""The fleet has the agent started anew; the supervisor does it (I-33)."""

EXIT_REBOOT: Final = 86
"""The fleet has the computer started anew; the supervisor does it (I-33)."""

EXIT_INTERRUPTED: Final = 130
"""Ended by Ctrl-C."""

LOOK_S: Final = 0.2
"""Between two looks whether the agent has taken an order."""

_OR_WITHOUT: Final = (
    "or start with --unattended: the car then works without it and keeps trying"
)

LOG_FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"


@click.group(
    epilog=examples(
        "freefloat gateway check --config gateway.toml  # is everything connected?",
        "freefloat gateway run --config gateway.toml    # run the agent",
        "freefloat gateway inspect ledger               # what the car keeps",
        "freefloat gateway rotate-key                   # a new signing key",
        "freefloat gateway explain tap                  # why did it not open?",
    )
)
def gateway() -> None:
    """Run the agent in a car."""


gateway.add_command(look)
gateway.add_command(recorder)
gateway.add_command(replay_command)
gateway.add_command(explain_command)
gateway.add_command(update)


@gateway.command(
    epilog=examples(
        "freefloat gateway check --config gateway.toml",
        "freefloat gateway check --json | jq '.[] | select(.ready | not)'",
    )
)
@config_option
@json_option
def check(config: Path, as_json: bool) -> int:
    """Say what the agent would find: board, reader, certificate, broker.

    Moves nothing and logs in nowhere. Devices that a running agent holds are reported
    as in use. The exit code is 0 if every part is ready.
    """
    settings, identity = _load(config)
    _quieten(logging.CRITICAL)
    found = []
    if not as_json:
        heading(f"Vehicle {identity.vehicle_id}")
    for finding in inspect(settings, identity, now=read_clock(), listen=True):
        found.append(finding)
        if not as_json:
            _print(finding)
    if as_json:
        print_json(
            [
                {
                    "part": finding.part,
                    "ready": finding.is_ready,
                    "found": finding.text,
                    "advice": finding.advice,
                }
                for finding in found
            ]
        )
    return 0 if all(finding.is_ready for finding in found) else EXIT_FAILED


@gateway.command(
    epilog=examples(
        "freefloat gateway run --config gateway.toml",
        "freefloat gateway run --unattended            # as the service does",
        "freefloat gateway run --verbose 2> car.log    # keep the log",
    )
)
@config_option
@click.option(
    "--unattended",
    is_flag=True,
    help="Start whatever is missing, and keep trying: a car must work without a broker "
    "or with an expired certificate. Without it, what is missing ends the command.",
)
@click.option("--verbose", "-v", is_flag=True, help="Log more.")
def run(config: Path, unattended: bool, verbose: bool) -> int:
    """Run the agent until it is ended by SIGTERM or Ctrl-C.

    At a terminal, lines typed take the place of display and keypad: 'pin 1234', 'park',
    'refuel', 'end'. The log goes to stderr.
    """
    if unattended:
        settings = load_patiently(lambda: _load_settings(config))
        endurance = count_run(settings)
    else:
        settings, endurance = _load_settings(config), None
    identity = load_identity(settings.identity)
    _quieten(logging.CRITICAL)
    if not unattended:
        _require_everything(settings, identity)
    configure_log(
        level=logging.DEBUG if verbose else logging.INFO,
        text=LOG_FORMAT,
        is_structured=settings.log.format == "json",
    )
    _quieten(logging.WARNING if verbose else logging.CRITICAL)
    is_reduced = endurance is not None and endurance.start.reduced
    positioning = (
        NoPositioning()
        if settings.positioning is None or is_reduced
        else NmeaPositioning(settings.positioning.port, baud=settings.positioning.baud)
    )
    tracer = _tracer(settings, identity, is_unattended=unattended)
    car = _compose(settings, identity, positioning, endurance, tracer)
    try:
        ended = run_unjoined(_serve(car, positioning, tracer))
    except KeyboardInterrupt:
        ended = EXIT_INTERRUPTED
    if endurance is not None:
        endurance.end()
    return ended


@gateway.command(
    "rotate-key",
    epilog=examples(
        "freefloat gateway rotate-key --config gateway.toml",
        "freefloat gateway rotate-key --wait 0    # leave the order for the next start",
        "freefloat gateway rotate-key --withdraw  # take an order back",
    ),
)
@config_option
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 600),
    default=30.0,
    show_default=True,
    help="Seconds to wait for the agent; it looks every 5 s.",
)
@click.option("--withdraw", is_flag=True, help="Take back an order that still waits.")
@json_option
def rotate_key(config: Path, wait_s: float, withdraw: bool, as_json: bool) -> None:
    """Order the agent to make the car a new signing key.

    What the fleet's ROTATE_KEY does: the agent makes the key, its ledger names it,
    signed by the old one, and the old one is gone. The order waits for an agent that
    does not run. Prints key ids, never a key.
    """
    settings, identity = _load(config)
    order = KeyOrder(settings.ledger)
    if withdraw:
        order.withdraw()
        step("no order waits")
        return
    if not settings.data.is_dir():
        raise OperatorError(
            f"{settings.data} does not exist: the agent has not run yet",
            "start the agent once; it makes its data directory",
        )
    before = identity.signing_key.key_id.hex()
    order.give()
    if not _is_taken(order, wait_s):
        _report_rotation(before, None, as_json=as_json)
        return
    after = load_identity(settings.identity).signing_key.key_id.hex()
    if after == before:
        raise OperatorError(
            "the agent took the order and could not carry it out",
            "see its log: journalctl -u freefloat-gateway -n 20",
        )
    _report_rotation(before, after, as_json=as_json)


def _is_taken(order: KeyOrder, wait_s: float) -> bool:
    until = time.monotonic() + wait_s
    while order.is_given:
        if time.monotonic() >= until:
            return False
        time.sleep(LOOK_S)
    return True


def _report_rotation(before: str, after: str | None, *, as_json: bool) -> None:
    if as_json:
        print_json({"old_key": before, "new_key": after, "waits": after is None})
    elif after is None:
        warning("the order waits: the agent takes it when it runs")
    else:
        step(f"key {after} signs now, in the place of {before}")


def _load(config: Path) -> tuple[Settings, Identity]:
    """Read settings and identity; both say themselves what is wrong with them."""
    settings = _load_settings(config)
    return settings, load_identity(settings.identity)


def _load_settings(config: Path) -> Settings:
    if not nfc_reader.is_installed():
        # nfcpy is imported late, so the command itself could be imported without it.
        raise OperatorError(
            "command 'gateway' needs nfc, which is not installed",
            "install the optional part: pip install 'freefloat[vehicle,nfc]'",
        )
    return load_settings(config)


def _quieten(level: int) -> None:
    """Keep nfcpy from logging each attempt to open, and card UIDs at its DEBUG."""
    logging.getLogger("nfc").setLevel(level)


def _print(finding: Finding) -> None:
    if finding.is_ready:
        step(f"{finding.part.ljust(12)}{finding.text}")
    else:
        print_error(f"{finding.part}: {finding.text}", finding.advice)


def _require_everything(settings: Settings, identity: Identity) -> None:
    missing = [
        finding
        for finding in inspect(settings, identity, now=read_clock(), listen=False)
        if not finding.is_ready
    ]
    if not missing:
        return
    *others, last = missing
    for finding in others:
        _print(finding)
    advice = [last.advice] if last.advice else []
    raise OperatorError(f"{last.part}: {last.text}", "\n".join([*advice, _OR_WITHOUT]))


def _compose(
    settings: Settings,
    identity: Identity,
    positioning: NmeaPositioning | NoPositioning,
    endurance: Endurance | None,
    tracer: Tracer | None,
) -> Gateway:
    clock = SystemClock()
    known = Timekeeper(clock, identity.trust.bundle.issued_ms)
    tls = TlsStore(settings.tls, tls_of(identity))
    keyboard = sys.stdin
    return build_gateway(
        identity,
        store=settings.ledger,
        links=mqtt_links(
            identity.vehicle_id,
            tls,
            host=settings.broker.host,
            port=settings.broker.port,
            time=known,
            other_hosts=settings.broker.other_hosts,
        ),
        reader=NfcReader(settings.reader.path),
        board=SerialBoard(settings.board.port),
        display=TerminalDisplay(keyboard.fileno() if keyboard.isatty() else None),
        positioning=positioning,
        clock=clock,
        random_bytes=secrets.token_bytes,
        boot_mark=boot_mark(),
        time=known,
        renewal=_renewal(settings, identity, tls, clock=clock, time=known),
        failures=FailureNote(_memory_file()),
        key_order=KeyOrder(settings.ledger),
        update_order=UpdateOrder(settings.ledger),
        recordings=settings.recordings,
        endurance=endurance,
        told=lambda: _certificate_line(settings, identity),
        tracer=tracer,
    )


def _tracer(
    settings: Settings, identity: Identity, *, is_unattended: bool
) -> CollectorTracer | None:
    """Return what takes the car's spans, None if nobody does.

    Raises:
        CollectorSetupError: it is wanted and not installed. A car that nobody attends
            runs without it and says so.
    """
    try:
        return open_tracer(
            settings.tracing,
            service="freefloat-gateway",
            instance=str(identity.vehicle_id),
        )
    except CollectorSetupError as error:
        if not is_unattended:
            raise
        logging.getLogger(__name__).warning("= no traces: %s: %s", error, error.advice)
        return None


def _certificate_line(settings: Settings, identity: Identity) -> list[str]:
    """Return how many days the TLS certificate in use has left, for SNAPSHOT."""
    tls = TlsStore(settings.tls, tls_of(identity)).current()
    try:
        found = x509.load_pem_x509_certificate(tls.certificate.read_bytes())
    except (OSError, ValueError):
        return ["certificate_days=-"]
    left = found.not_valid_after_utc - wall_clock()
    return [f"certificate_days={left.days}"]


def _memory_file() -> Path | None:
    """Return a file that outlives this process and not the boot; None for none.

    systemd gives a service such a directory (RuntimeDirectory=, kept over restarts).
    """
    directory = os.environ.get("RUNTIME_DIRECTORY") or os.environ.get("XDG_RUNTIME_DIR")
    return Path(directory) / "freefloat-ledger-failures" if directory else None


def _renewal(
    settings: Settings,
    identity: Identity,
    tls: TlsStore,
    *,
    clock: SystemClock,
    time: Timekeeper,
) -> Renewal:
    where = settings.enrolment
    return Renewal(
        Applicant(identity.vehicle_id, identity.fleet_id),
        store=tls,
        service=(
            None if where is None else HttpsEnrolment(where.host, where.port, time=time)
        ),
        time=time,
        clock=clock,
        random=random.SystemRandom().random,
        worker=ThreadWorker(f"renewal-{identity.vehicle_id.short}"),
    )


async def _serve(
    car: Gateway,
    positioning: NmeaPositioning | NoPositioning,
    tracer: CollectorTracer | None,
) -> int:
    """Run until SIGTERM or Ctrl-C, either of which ends the car in order.

    Raises:
        StoreError: the ledger failed; the supervisor starts the process anew (L13).
    """
    task = asyncio.create_task(car.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    listening = (
        asyncio.create_task(positioning.run())
        if isinstance(positioning, NmeaPositioning)
        else None
    )
    try:
        with suppress(asyncio.CancelledError):
            await task
    except AgentRestartError as error:
        logging.getLogger(__name__).warning("= %s", error)
        return EXIT_REBOOT if error.of_machine else EXIT_RESTART
    finally:
        if listening is not None:
            listening.cancel()
            await asyncio.wait([listening])
        await close_tracer(tracer)
    return 0
