"""``freefloat conformance car``: the backend's side, against one car's gateway."""

from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

import click

from certs.fleet import FleetDirectory
from protocol.errors import ProtocolError
from protocol.fleet import FleetPart
from protocol.identity import VehicleId
from protocol.json_file import parse_hex
from protocol.keyfile import parse_signing_key
from protocol.keys import SigningKey, VerifyKey
from protocol.topic import PREFIX
from tools.address import BrokerAddress
from tools.clock import read_clock, wall_s
from tools.conformance.car_inputs import Inputs, Signer, read_bundle
from tools.conformance.car_subject import CAR_SUITE, Car
from tools.conformance.check import NotReachedError
from tools.conformance.command import list_checks, report, select, suite_options
from tools.conformance.report import tell_progress
from tools.conformance.run import Observer, Run, run_checks
from tools.conformance.wire import Wire
from tools.console import examples
from tools.errors import OperatorError
from transport.link import LinkSettings, MqttLink
from transport.tls import TlsIdentity, client_context, common_name

from tools.conformance import (  # isort: skip
    # In the order in which their checks run; each adds them to the suite.
    car_commands,
    car_refusals,
    car_silence,
    car_ledger,
    car_trust,
    car_audit,
)

PARTS: Final = (
    car_commands,
    car_refusals,
    car_silence,
    car_ledger,
    car_trust,
    car_audit,
)
"""The modules of the suite, in the order in which their checks run."""

T = TypeVar("T")

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    epilog=examples(
        "freefloat conformance car --list",
        "freefloat conformance car --fleet fleet --broker 127.0.0.1:8883 \\",
        "    --vehicle ZJFAAAAAAAAAAAAAAAAAAAAAAE",
        "freefloat conformance car --broker lab:8883 --vehicle ZJFA... \\",
        "    --vehicle-key bc7c...05a5 --fleet-id f1ee...0001 --ca root.pem \\",
        "    --certificate bridge.crt --tls-key bridge.key --bundle bundle.bin \\",
        "    --key command.key --key receipt.key --only FF-CMD --json",
    )
)
@click.option("--broker", type=BrokerAddress(), help="Where the car's broker listens.")
@click.option("--vehicle", metavar="ID", help="Vehicle id of the car, 26 characters.")
@click.option(
    "--fleet",
    type=click.Path(path_type=Path, file_okay=False),
    help="A fleet directory of 'freefloat certs'; gives all that is not named.",
)
@click.option("--vehicle-key", metavar="HEX", help="The car's public signing key.")
@click.option("--fleet-id", metavar="HEX", help="Fleet id, 32 hexadecimal digits.")
@click.option("--ca", type=_FILE, help="Root certificates of the broker, PEM.")
@click.option("--certificate", type=_FILE, help="A bridge's TLS certificate, PEM.")
@click.option("--tls-key", type=_FILE, help="Its key, PEM.")
@click.option("--bundle", type=_FILE, help="The signed trust bundle that the car has.")
@click.option("--newer-bundle", type=_FILE, help="A signed successor of it.")
@click.option("--older-bundle", type=_FILE, help="A signed predecessor of it.")
@click.option(
    "--key",
    "keys",
    multiple=True,
    type=_FILE,
    help="Private signing key, PEM; the bundle says what it may do. At least one that "
    "may sign every command and one of role RECEIPT; each limited one decides more "
    "clauses. May be repeated.",
)
@click.option(
    "--answer",
    "answer_s",
    type=click.FloatRange(0.1, 60),
    default=10.0,
    show_default=True,
    help="Seconds that an answer may take.",
)
@click.option(
    "--silence",
    "silence_s",
    type=click.FloatRange(0.05, 60),
    default=1.0,
    show_default=True,
    help="Seconds for which an answer that must not come is watched for.",
)
@suite_options
def car(
    broker: tuple[str, int] | None,
    vehicle: str | None,
    fleet: Path | None,
    vehicle_key: str | None,
    fleet_id: str | None,
    ca: Path | None,
    certificate: Path | None,
    tls_key: Path | None,
    bundle: Path | None,
    newer_bundle: Path | None,
    older_bundle: Path | None,
    keys: tuple[Path, ...],
    answer_s: float,
    silence_s: float,
    only: tuple[str, ...],
    *,
    listing: bool,
    details: bool,
    as_json: bool,
) -> int | None:
    """Play the backend against a car, and judge its gateway clause by clause.

    Use a car of a laboratory that is free: it is reserved and released, its trust
    bundle may be renewed, and what its ledger holds is receipted without being kept.
    No bridge may run beside it.
    """
    if listing:
        list_checks(CAR_SUITE, only, as_json=as_json)
        return None
    select(CAR_SUITE, only)
    vehicle_id = VehicleId.from_text(_given(vehicle, "--vehicle"))
    tls = TlsIdentity(
        certificate=_file(certificate, fleet, f"{FleetPart.BRIDGE}/tls.crt",
                          "--certificate"),
        key=_file(tls_key, fleet, f"{FleetPart.BRIDGE}/tls.key", "--tls-key"),
        trust_anchors=_file(ca, fleet, FleetPart.TRUST_ANCHORS, "--ca"),
    )  # fmt: skip
    directory = None if fleet is None else FleetDirectory.open(fleet)
    if fleet_id is not None or directory is None:
        fleet_bytes = parse_hex(_given(fleet_id, "--fleet-id"), 16, name="--fleet-id")
    else:
        fleet_bytes = directory.fleet.fleet_id
    if vehicle_key is not None or directory is None:
        key = VerifyKey.load(bytes.fromhex(_given(vehicle_key, "--vehicle-key")))
    else:
        key = directory.vehicle_record(vehicle_id).signing_key
    if bundle is not None or directory is None:
        data = _read(_given(bundle, "--bundle"))
    else:
        data = directory.trust_bundle()
    paths = keys
    if fleet is not None and not keys:
        paths = (fleet / FleetPart.COMMAND_KEY, fleet / FleetPart.RECEIPT_KEY)
    inputs = make_inputs(
        vehicle_id, key, fleet_bytes, data,
        [parse_signing_key(_read(path), name=str(path)) for path in paths],
    )  # fmt: skip
    inputs = replace(
        inputs,
        newer_bundle=b"" if newer_bundle is None else _read(newer_bundle),
        older_bundle=b"" if older_bundle is None else _read(older_bundle),
        answer_s=answer_s,
        silence_s=silence_s,
    )
    host, port = _given(broker, "--broker")
    link = MqttLink(
        LinkSettings(host, port, client_id=common_name(tls)),
        client_context(tls, now=read_clock()),
    )
    return report(
        examine(link, inputs, only=only, observe=tell_progress),
        subject=f"car {vehicle_id} at {host}:{port}",
        details=details,
        as_json=as_json,
    )


def make_inputs(
    vehicle_id: VehicleId,
    vehicle_key: VerifyKey,
    fleet_id: bytes,
    bundle: bytes,
    keys: list[SigningKey],
) -> Inputs:
    """Join keys with what the bundle says of them.

    Raises:
        OperatorError: the bundle is none, or another fleet's.
    """
    try:
        read = read_bundle(bundle, fleet_id)
    except ProtocolError as error:
        raise OperatorError(
            f"the trust bundle cannot be used: {error}",
            "name the bundle that the car holds, and its fleet's id",
        ) from None
    return Inputs(
        vehicle_id=vehicle_id,
        vehicle_key=vehicle_key,
        fleet_id=fleet_id,
        bundle=read,
        bundle_data=bundle,
        signers=[Signer(key, read.find(key.key_id)) for key in keys],
        now_ms=lambda: int(wall_s() * 1000),
    )


async def examine(
    link: MqttLink,
    inputs: Inputs,
    *,
    only: tuple[str, ...] = (),
    observe: Observer = lambda _: None,
) -> Run:
    """Run the suite over a link and return what it found.

    Raises:
        LinkError: there is no way to the broker.
        OperatorError: the car says nothing, or a key is missing.
    """
    async with Wire(link, f"{PREFIX}/{inputs.vehicle_id}/up/#") as wire:
        subject = Car(wire, inputs)
        if not inputs.receipt_signers() or not subject.commanders:
            raise OperatorError(
                "the keys do not suffice: one that may sign every command, SYNC type "
                "and lane, and one of role RECEIPT are needed",
                "name them by --key; see 'freefloat certs trust show'",
            )
        try:
            await subject.meet()
        except NotReachedError as error:
            raise OperatorError("the car does not answer", str(error)) from None
        return await run_checks(
            CAR_SUITE.selected(only),
            subject,
            only=only,
            observe=observe,
            steady=lambda: subject.session_id,
        )


def _file(given: Path | None, fleet: Path | None, part: str, option: str) -> Path:
    return given if given is not None else _given(fleet and fleet / part, option)


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _given(value: T | None, option: str) -> T:
    if value is None:
        raise click.UsageError(f"{option} is needed, or --fleet where that has it")
    return value
