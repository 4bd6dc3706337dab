"""PING with hop times, SNAPSHOT and EXPLAIN in the whole gateway."""

import platform
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from gateway.core.payment import payment_id_of
from gateway.core.reading import Position
from gateway.core.restart_storm import Patience, RunNote
from gateway.runtime.diagnostician import PINGS_LIMIT
from gateway.runtime.endurance import Endurance
from protocol.codes import Code
from protocol.command import ANY_VERSION, Command, Explain, Ping, RequestSnapshot
from protocol.diagnosis import Diagnosed, DiagnosisKind, ExplainSubject
from protocol.identity import card_digest
from protocol.snapshot import NO_RENTAL
from tests.gateway.test_payment import ask_fleet, paid
from tests.gateway.world import ALICE, MALLORY, World

PING = Ping(NO_RENTAL, ANY_VERSION, bytes(range(16)))
SNAPSHOT = RequestSnapshot(NO_RENTAL, ANY_VERSION)


class Endings:
    """Keeps the note of the runs, as the flash does."""

    def __init__(self) -> None:
        self.note = RunNote()

    def read(self) -> RunNote:
        return self.note

    def write(self, note: RunNote) -> None:
        self.note = note

    def endurance(self, boot_mark: str) -> Endurance:
        return Endurance(self, patience=Patience(), boot_mark=boot_mark)


def why(subject: ExplainSubject, about_id: bytes = bytes(16)) -> Explain:
    return Explain(NO_RENTAL, ANY_VERSION, subject, about_id)


def told(world: World) -> list[Diagnosed]:
    """Everything that the car said of itself so far."""
    return [event for event in world.fleet.events() if isinstance(event, Diagnosed)]


def values(parts: list[Diagnosed]) -> dict[str, str]:
    lines = [line for part in parts for line in part.lines]
    pairs = (word.split("=", 1) for line in lines for word in line.split(" "))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


async def ask(world: World, command: Command, *, wait_s: float = 5.0) -> list[str]:
    data = world.fleet.send(command)
    await world.advance(wait_s)
    assert set(world.fleet.codes_of(data)) == {Code.OK}
    return [line for part in told(world) for line in part.lines]


async def test_a_ping_tells_when_disk_board_and_reader_answered() -> None:
    """FF-DIA-03, I-33: signed, in the ledger, and it names the ping that it answers."""
    async with World() as world:
        await ask(world, PING)

        [part] = told(world)
        said = values([part])
        assert (part.kind, part.part, part.parts) == (DiagnosisKind.PING, 1, 1)
        assert said["nonce"] == PING.nonce.hex()
        for hop in ("committed", "board", "reader", "signed"):
            assert int(said[f"{hop}_ms"]) >= 0


async def test_a_mute_board_is_told_as_the_hop_that_is_missing() -> None:
    """FF-DIA-03: the ping is answered all the same, and the reader's time is there."""
    async with World() as world:
        world.board.is_mute = True
        await ask(world, PING)

        said = values(told(world))
        assert said["board_ms"] == "-"
        assert int(said["reader_ms"]) >= 0
        assert int(said["signed_ms"]) >= 3_000


async def test_pings_that_overlap_have_their_own_times_each() -> None:
    """FF-DIA-03, I-33: a second engineer takes nothing from the first."""
    async with World() as world:
        world.board.is_mute = True
        nonces = [bytes([number]) * 16 for number in range(3)]
        for nonce in nonces:
            await ask(world, replace(PING, nonce=nonce), wait_s=0.5)
        await world.advance(5.0)

        said = [values([part]) for part in told(world)]
        assert [each["nonce"] for each in said] == [nonce.hex() for nonce in nonces]
        assert all(3_000 <= int(each["signed_ms"]) < 3_500 for each in said)
        assert len({part.request_id for part in told(world)}) == len(nonces)


async def test_one_ping_too_many_lets_the_oldest_answer_with_what_it_has() -> None:
    """FF-DIA-03, I-20: so many under way at once and no more, and each is answered."""
    async with World() as world:
        world.board.is_mute = True
        for number in range(PINGS_LIMIT + 2):
            await ask(world, replace(PING, nonce=bytes([number]) * 16), wait_s=0.1)

        hurried = [values([part]) for part in told(world)]
        assert [each["nonce"] for each in hurried] == ["00" * 16, "01" * 16]
        assert {each["board_ms"] for each in hurried} == {"-"}
        assert all(int(each["reader_ms"]) < 100 for each in hurried)
        assert all(int(each["signed_ms"]) < 1_000 for each in hurried)

        await world.advance(5.0)
        assert len(told(world)) == PINGS_LIMIT + 2


async def test_a_snapshot_tells_parts_versions_and_fill() -> None:
    """Issue 4, point 7: component states, versions, ledger, trust and clock."""
    async with World() as world:
        await ask(world, SNAPSHOT)

        said = values(told(world))
        assert {part.kind for part in told(world)} == {DiagnosisKind.SNAPSHOT}
        assert said["board"] == said["reader"] == said["disk"] == "ok"
        assert said["mode"] == "AVAILABLE"
        assert int(said["ledger_free_kib"]) > 0
        assert (said["service"], said["trouble"]) == ("-", "-")
        assert said["clock"] == "NTP"
        assert (said["board_starts"], said["agent_starts"]) == ("17", "1")
        assert said["payment"] == "-"
        assert said["python"] == platform.python_version()
        assert said["cryptography"] == version("cryptography")
        for name in ("firmware", "supply_mv", "waiting", "trust_bundle", "boot_ms"):
            assert name in said
        for name in ("build", "sqlite", "apsw", "construct", "msgspec"):
            assert name in said


async def test_a_snapshot_tells_how_the_runs_before_ended() -> None:
    """Issue 4, point 7, I-30: why the agent was started anew, the newest first."""
    note = Endings()
    async with World(endurance=note.endurance) as world:
        await ask(world, SNAPSHOT)
        first = values(told(world))["last_ends"]
        await world.power_cut()
        await world.advance(5.0)
        before = len(told(world))
        await ask(world, SNAPSHOT)

        assert first == "-"
        said = values(told(world)[before:])
        assert said["last_ends"].split(",")[0] == "machine"
        assert said["agent_starts"] == "2"


async def test_a_snapshot_shows_the_payment_that_holds_the_engine() -> None:
    """H3, I-28: a pending payment is seen, also after a power cut, until it is paid."""
    async with World() as world:
        rental_id = await ask_fleet(world)
        await world.power_cut()
        await world.advance(5.0)
        await ask(world, SNAPSHOT)
        pending, before = values(told(world)), len(told(world))

        world.fleet.send(paid(rental_id))
        await world.advance(2.0)
        await ask(world, SNAPSHOT)
        settled = values(told(world)[before:])

        payment_id = payment_id_of(rental_id, 1).hex()
        assert (pending["payment"], settled["payment"]) == (payment_id, payment_id)
        assert (pending["stage"], pending["payment_holds"]) == ("PENDING", "yes")
        assert (settled["stage"], settled["payment_holds"]) == ("PAID", "no")


async def test_the_car_explains_a_tap_an_order_a_lock_and_its_light(
    tmp_path: Path,
) -> None:
    """Issue 4, point 7: the chain of reasons, signed; FF-DIA-01, FF-DIA-02."""
    world = World(recordings=tmp_path)
    async with world:
        world.positioning.position = Position(521234567, 134567891, 30, None)
        rental_id = await world.begin_rental()
        await world.advance(10.0)
        world.present(MALLORY)
        await world.advance(1.0)
        tap = await ask(world, why(ExplainSubject.TAP))
        lock = (await ask(world, why(ExplainSubject.LOCK)))[len(tap) :]
        light = (await ask(world, why(ExplainSubject.LIGHT)))[len(tap) + len(lock) :]
        before = len(tap) + len(lock) + len(light)
        command = (await ask(world, why(ExplainSubject.COMMAND)))[before:]

        assert "because no rental and no grant of the car knows the card" in tap
        assert "then asked the board to unlock the doors" in lock
        assert any("the indicator follows its rule" in line for line in light)
        assert any(line.startswith("order RESERVE") for line in command)
        for part in told(world):
            assert part.kind is DiagnosisKind.EXPLANATION
            text = "".join(part.lines).encode()
            for uid in (ALICE, MALLORY):
                assert uid.hex().encode() not in text
                for bound in (rental_id, NO_RENTAL):
                    assert card_digest(bound, uid).hex().encode() not in text
            assert b"5212345" not in text
        asked = {part.request_id for part in told(world)}
        for request_id in asked:
            parts = [part for part in told(world) if part.request_id == request_id]
            assert [part.part for part in parts] == list(range(1, parts[0].parts + 1))


async def test_an_unknown_order_and_a_car_without_recorder_say_so(
    tmp_path: Path,
) -> None:
    async with World(recordings=tmp_path) as world:
        unknown = await ask(world, why(ExplainSubject.COMMAND, b"\x07" * 16))
    async with World() as other:
        bare = await ask(other, why(ExplainSubject.TAP))

    assert unknown == ["nothing of this kind is recorded"]
    assert bare == ["no flight recorder runs"]
