"""`freefloat watch`: the frames of a fleet as they pass the broker, one line each.

An engineer's certificate may read everything and publish nothing, so watching disturbs
nobody. Signatures of vehicles are checked against the fleet's registry and the line
says what came out; a watcher that believed the topic would show forgeries as facts.
"""

import asyncio
import base64
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import click

from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from protocol.errors import ProtocolError
from protocol.fleet import FleetPart
from protocol.frame import Frame, Header, parse_frame
from protocol.identity import VehicleId
from protocol.keys import VerifyKey
from protocol.rendering import render_bytes, render_frame
from protocol.signing import verify_frame
from protocol.topic import EVERYTHING, parse_topic
from tools.address import DEFAULT_PORT, BrokerAddress
from tools.clock import read_clock, wall_clock
from tools.console import examples, json_option, print_json
from transport.link import LinkSettings, MqttLink
from transport.message import IncomingMessage
from transport.tls import TlsIdentity, client_context, common_name


@dataclass(frozen=True, slots=True)
class Judge:
    """Checks frames of vehicles against the registry of one fleet."""

    fleet: FleetDirectory
    """Which one."""
    known: dict[tuple[VehicleId, bytes], VerifyKey] = field(default_factory=dict)
    """Keys that were looked up already, by whose and which."""

    def judge(self, frame: Frame) -> str:
        """Return "signed", "unsigned here" for the fleet's own frames, or the fault."""
        if not frame.header.frame_class.from_vehicle:
            return "to the car"
        try:
            key = self._key_of(frame.header)
            verify_frame(frame, fleet_id=self.fleet.fleet.fleet_id, key=key)
        except (ProtocolError, OSError) as error:
            return f"NOT AUTHENTIC: {error}"
        return "signed"

    def _key_of(self, header: Header) -> VerifyKey:
        key = self.known.get((header.vehicle_id, header.key_id))
        if key is None:
            # Anew for each unknown key: the office may have certified it since.
            record = self.fleet.vehicle_record(header.vehicle_id)
            key = record.key_named(header.key_id)
            self.known[header.vehicle_id, key.key_id] = key
        return key


@dataclass(frozen=True, slots=True)
class Selection:
    """Which frames to print."""

    vehicle: str
    """Beginning of the vehicle id; empty for all."""
    classes: tuple[str, ...]
    """Class labels; empty for all."""

    def takes(self, topic: str) -> bool:
        """Return whether a message on this topic is wanted."""
        try:
            route = parse_topic(topic)
        except ProtocolError:
            return True
        wanted = not self.classes or route.frame_class.label in self.classes
        return wanted and str(route.vehicle_id).startswith(self.vehicle)


@click.command(
    epilog=examples(
        "freefloat watch --fleet fleet --broker 127.0.0.1:8883",
        "freefloat watch --vehicle AB3X --class event --class result",
        "freefloat watch --json --count 10 > frames.jsonl",
    )
)
@click.option(
    "--fleet",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("fleet"),
    show_default=True,
    help="The fleet directory: engineer's certificate and vehicle registry.",
)
@click.option(
    "--broker",
    type=BrokerAddress(),
    default=f"127.0.0.1:{DEFAULT_PORT}",
    show_default=True,
    help="Where the broker listens.",
)
@click.option("--vehicle", default="", help="Only ids that begin like this.")
@click.option(
    "--class",
    "classes",
    multiple=True,
    type=click.Choice([frame_class.label for frame_class in FrameClass]),
    help="Only this class of frame. May be repeated.",
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many frames.")
@json_option
def watch(
    fleet: Path,
    broker: tuple[str, int],
    vehicle: str,
    classes: tuple[str, ...],
    count: int | None,
    as_json: bool,
) -> None:
    """Print the frames of a fleet as they pass the broker.

    Ends with Ctrl-C. ">" is to the car, "<" from it. A line says so if a frame's
    signature does not hold.
    """
    directory = FleetDirectory.open(fleet)
    identity = TlsIdentity.of_fleet(fleet, FleetPart.ENGINEER)
    link = MqttLink(
        LinkSettings(*broker, client_id=common_name(identity)),
        client_context(identity, now=read_clock()),
    )
    selection = Selection(vehicle.upper(), classes)
    asyncio.run(_watch(link, Judge(directory), selection, count, as_json=as_json))


async def _watch(
    link: MqttLink,
    judge: Judge,
    selection: Selection,
    count: int | None,
    *,
    as_json: bool,
) -> None:
    seen = 0
    async with link:
        await link.subscribe(EVERYTHING)
        async for message in link.messages():
            message.done()
            if not selection.takes(message.topic):
                continue
            _print(message, judge, as_json=as_json)
            seen += 1
            if seen == count:
                return


def _print(message: IncomingMessage, judge: Judge, *, as_json: bool) -> None:
    now = wall_clock()
    vehicle, line, verdict = "?", render_bytes(message.payload), "no frame"
    with suppress(ProtocolError):
        frame = parse_frame(message.payload)
        vehicle, line = str(frame.header.vehicle_id), render_frame(frame)
        verdict = judge.judge(frame)
        if parse_topic(message.topic).vehicle_id != frame.header.vehicle_id:
            verdict = "NOT AUTHENTIC: the topic names another vehicle"
    if as_json:
        print_json(
            {
                "received": now.isoformat(timespec="milliseconds"),
                "topic": message.topic,
                "vehicle": vehicle,
                "verdict": verdict,
                "text": line,
                "frame": base64.b64encode(message.payload).decode("ascii"),
            }
        )
        return
    mark = "" if verdict in {"signed", "to the car"} else f"  {verdict}"
    way = ">" if "/down/" in message.topic else "<"
    colour = "red" if mark else None
    click.echo(
        click.style(f"{now:%H:%M:%S.%f}"[:-3], dim=True)
        + f" {way} {vehicle[:6]}  "
        + click.style(f"{line}{mark}", fg=colour)
    )
