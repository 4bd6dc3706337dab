"""Checks of what a bridge says beside receipts: challenge, trust, time, commands."""

import asyncio
import json
import urllib.error
import urllib.request
from typing import Any

from protocol.codes import FrameClass, Lane
from protocol.command import Ping
from protocol.entry import entry_hash
from protocol.errors import ProtocolError
from protocol.hello import NO_NONCE
from protocol.keys import Ed25519SigningKey
from protocol.sync import Challenge, FleetTime
from protocol.trust import open_bundle
from tools.conformance.bridge_ledger import told
from tools.conformance.bridge_subject import BRIDGE_SUITE, Said, Subject
from tools.conformance.check import NotReachedError, Trial

SYNC_LIFE_MS = 30_000


@BRIDGE_SUITE.check("signs time and nothing that its key may not", "FF-TRU-21")
async def signs_within_the_bundle(trial: Trial, bridge: Subject) -> None:
    """Each frame of a sync or command key is of an opcode and a lane that it has."""
    car = bridge.car
    await car.begin()
    time = await car.first(lambda said: isinstance(said.body, FleetTime), since=0)
    wrong = [f"0x{said.frame.header.type:04X}" for said in car.said() if not _may(said)]
    trial.judge(
        "FF-TRU-21",
        not wrong,
        sent="a hello and an entry",
        expected="frames that the bundle allows their keys",
        came=f"{len(car.said())} frames, not allowed: {wrong or 'none'}; "
        + ("the time was told" if time else "the time was not told"),
    )


@BRIDGE_SUITE.check("takes the same hello twice as one", "FF-HEL-10")
async def takes_a_hello_twice(trial: Trial, bridge: Subject) -> None:
    """No challenge comes, and receipts go on."""
    car = bridge.car
    await car.begin()
    mark = car.wire.mark
    hello = await car.greet()
    await car.send(hello, FrameClass.HELLO)
    await car.marker()
    await car.quiet()
    asked = [one for one in car.said(since=mark) if isinstance(one.body, Challenge)]
    trial.judge(
        "FF-HEL-10",
        not asked,
        sent="the same hello twice",
        expected="no challenge",
        came=f"{len(asked)} challenges",
    )


@BRIDGE_SUITE.check("asks a car whose hello went back", "FF-HEL-09", "FF-SYN-10")
async def asks_after_a_replay(trial: Trial, bridge: Subject) -> None:
    """An old hello is replayed: nothing but a challenge until its nonce comes."""
    car = bridge.car
    await car.begin()
    mark = car.wire.mark
    old = await car.greet()
    if await car.receipt_that(lambda _: True, since=mark) is None:
        raise NotReachedError("no receipt answered a hello")
    await car.restart()
    mark = car.wire.mark
    await car.greet()
    if await car.receipt_that(lambda _: True, since=mark) is None:
        raise NotReachedError("no receipt answered a hello of a new session")
    await car.quiet()
    mark = car.wire.mark
    await car.send(old, FrameClass.HELLO)
    asked = await car.first(lambda one: isinstance(one.body, Challenge), since=mark)
    receipts = car.receipts(since=mark)
    trial.judge(
        "FF-HEL-09",
        not receipts,
        sent="a hello of the session before, again",
        expected="it is not taken: no receipt answers it",
        came=told(receipts[0] if receipts else None),
    )
    nonce = asked.body.nonce if asked and isinstance(asked.body, Challenge) else b""
    mark = car.wire.mark
    await car.greet()
    receipt = await car.receipt_that(lambda _: True, since=mark)
    trial.judge(
        "FF-SYN-10",
        bool(nonce) and nonce != NO_NONCE and receipt is not None,
        sent="the replay; then a hello with the nonce that was asked for",
        expected="a signed CHALLENGE with a nonce, then a receipt",
        came=("a challenge, " if nonce else "no challenge, ") + told(receipt),
    )


@BRIDGE_SUITE.check(
    "brings the newest bundle to a car that has not got it", "FF-TRU-24"
)
async def brings_the_bundle(trial: Trial, bridge: Subject) -> None:
    """It opens under the trust roots that the car holds."""
    car = bridge.car
    await car.begin()
    version, mark = car.player.bundle.version - 1, car.wire.mark
    await car.send(car.player.hello(bundle_version=version), FrameClass.HELLO)
    said = await car.first(
        lambda one: one.frame.header.frame_class is FrameClass.TRUST, since=mark
    )
    came, brought = "no TRUST frame", 0
    if said is not None:
        try:
            player = car.player
            brought = open_bundle(
                said.frame.payload, player.roots, fleet_id=player.fleet_id
            ).version
            came = f"bundle {brought}"
        except ProtocolError as error:
            came = f"a bundle that does not open: {error}"
    trial.judge(
        "FF-TRU-24",
        brought > version,
        sent=f"a hello that names bundle {version}",
        expected="a TRUST frame with a newer one",
        came=came,
    )


@BRIDGE_SUITE.check(
    "takes a new ledger and does not return to the old one", "FF-LED-22", "FF-LED-23"
)
async def follows_the_newest_ledger(trial: Trial, bridge: Subject) -> None:
    """LEDGER_RESET begins it; a hello about the one before gets no receipt."""
    car = bridge.car
    await car.begin()
    player = car.player
    old = player.ledger_id, player.seq, player.head
    first = await car.begin()
    trial.judge(
        "FF-LED-22",
        first.upto == 1,
        sent="a hello and LEDGER_RESET of a new ledger",
        expected="a receipt of the new ledger",
        came=told(first),
    )
    new = player.ledger_id, player.seq, player.head
    await car.restart()
    player.ledger_id, player.seq, player.head = old
    mark = car.wire.mark
    await car.send(player.hello(), FrameClass.HELLO)
    await car.quiet()
    came = car.receipts(since=mark)
    trial.judge(
        "FF-LED-23",
        not came,
        sent="a hello about the ledger before",
        expected="no receipt of that ledger",
        came=told(came[0] if came else None),
    )
    player.ledger_id, player.seq, player.head = new
    await car.first(lambda one: isinstance(one.body, Challenge), since=mark)


@BRIDGE_SUITE.check("ends a command by the result of its own bytes", "FF-CMD-25")
async def ends_a_command(trial: Trial, bridge: Subject) -> None:
    """A result with another request hash changes nothing."""
    car, url = bridge.car, bridge.order_url.rstrip("/")
    if not url:
        raise NotReachedError("needs a way to order a command: give --order-url")
    await car.begin()
    await car.marker()
    mark = car.wire.mark
    path = f"{url}/v1/vehicles/{car.player.vehicle_id}/commands"
    ordered = await asyncio.to_thread(_ask, path, bridge.api_key, {"kind": "ping"})
    command = await car.first(lambda one: isinstance(one.body, Ping), since=mark)
    if command is None:
        raise NotReachedError("no PING came for an order")
    name, data = str(ordered.get("command_id") or ordered.get("id")), command.frame.data
    for is_right, text in ((False, "of other bytes"), (True, "of its bytes")):
        mark = car.wire.mark
        result = car.player.result(data, hash_of=None if is_right else b"other")
        await car.send(result, FrameClass.RESULT)
        if await car.receipt(entry_hash(result), since=mark) is None:
            raise NotReachedError("no receipt for a result")
        path = f"{url}/v1/commands/{name}"
        state = (await asyncio.to_thread(_ask, path, bridge.api_key)).get("state")
        trial.judge(
            "FF-CMD-25",
            (state == "succeeded") is is_right,
            sent=f"a result OK with the request hash {text}",
            expected="succeeded" if is_right else "no end",
            came=str(state),
        )


@BRIDGE_SUITE.check(
    "follows a car to its new key",
    "FF-ENR-14",
    "FF-ENR-15",
    "FF-ENR-16",
)
async def follows_a_rotation(trial: Trial, bridge: Subject) -> None:
    """With a proof of the new key only, and to no other from then on."""
    car, player = bridge.car, bridge.car.player
    if not bridge.may_rotate:
        raise NotReachedError("uses the car's key up: allow it by --rotate-key")
    await car.begin()
    wrong = player.rotation(
        Ed25519SigningKey.generate(), prover=Ed25519SigningKey.generate()
    )
    mark, seq = car.wire.mark, player.seq
    await car.send(wrong)
    refused = await car.receipt_that(
        lambda one: any(reject.seq == seq for reject in one.rejects), since=mark
    )
    trial.judge(
        "FF-ENR-14",
        refused is not None,
        sent="KEY_ROTATED with the proof of another key",
        expected=f"a reject of entry {seq}",
        came=told(refused),
    )
    await car.begin()
    old, new = player.key, Ed25519SigningKey.generate()
    await car.send(player.rotation(new))
    by_old = player.started()
    await car.send(by_old)
    player.key = new
    player.seq, player.head = player.seq - 1, player.before_head
    good = player.started()
    mark = car.wire.mark
    await car.send(good)
    receipt = await car.receipt(entry_hash(good), since=mark)
    if receipt is None:
        player.key = old
    trial.judge(
        "FF-ENR-15",
        receipt is not None,
        sent="KEY_ROTATED, then an entry by the new key",
        expected="the receipt of that entry",
        came=told(receipt),
    )
    taken = car.was_receipted(by_old)
    trial.judge(
        "FF-ENR-16",
        not taken,
        sent="KEY_ROTATED, then an entry by the old key",
        expected="no receipt of that entry",
        came="a receipt" if taken else "none",
    )


def _may(said: Said) -> bool:
    header, key = said.frame.header, said.key
    match header.frame_class:
        case FrameClass.SYNC:
            return header.type in key.opcodes and Lane.TRUST in key.lanes
        case FrameClass.CMD:
            return header.type in key.opcodes and header.lane in key.lanes
        case _:
            return True


def _ask(url: str, api_key: str, body: object = None) -> dict[str, Any]:
    request = urllib.request.Request(  # noqa: S310 - the operator's own URL
        url,
        data=None if body is None else json.dumps(body).encode(),
        headers={"X-Api-Key": api_key, "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - as above
            document: dict[str, Any] = json.loads(answer.read())
            return document
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        raise NotReachedError(f"the API at {url} did not answer: {error}") from error
