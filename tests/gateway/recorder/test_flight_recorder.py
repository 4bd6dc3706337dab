"""The flight recorder in the whole gateway: what it keeps, and where that leads."""

import asyncio
import base64
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from gateway.core.prompts import Choice
from gateway.core.reading import Position
from gateway.recorder import ring
from gateway.recorder.record import Frame, parse_line
from gateway.recorder.replay import Replayed, replay
from gateway.recorder.ring import Ring, read_lines, read_records, recordings
from protocol.codes import RentalMode
from protocol.identity import card_digest
from tests.gateway.devices import FakeVault
from tests.gateway.world import World

CANARY_PIN: Final = "86420975"
CANARY_WORDS = "Canary Wharf 17"
CANARY_CARD: Final = bytes.fromhex("04c0ffee15bad0")
CANARY_STRANGER: Final = bytes.fromhex("04deadbeef1234")
CANARY_SEALED: Final = b"sealed-canary-of-the-fuel-card"
NOWHERE: Final = Position(521234567, 134567891, 30, None)


async def whole_rental(world: World) -> bytes:
    """A stranger's card, then reserve, open, PIN, drive, park, go on, and end."""
    world.positioning.position = NOWHERE
    world.present(CANARY_STRANGER)
    await world.advance(8.0)
    rental_id = await world.reserve(CANARY_CARD, sealed=CANARY_SEALED)
    await world.advance(2.0)
    world.present(CANARY_CARD)
    await world.advance(1.0)
    for choice in (Choice.CONTINUE, Choice.CONTINUE):
        world.display.choose(choice)
        await world.advance(0.5)
    world.display.type_pin(CANARY_PIN)
    await world.advance(1.0)
    for words in ("", CANARY_WORDS):
        world.display.choose(Choice.PLAN_HANDOVER)
        await world.advance(0.5)
        world.display.type_destination(words)
        await world.advance(0.5)
    world.board.change(engine_running=True, ignition_on=True, speed_dkmh=300)
    await world.advance(120.0)
    world.board.change(engine_running=False, ignition_on=False, speed_dkmh=0)
    await world.advance(10.0)
    world.display.choose(Choice.PARK)
    world.present(CANARY_CARD)
    await world.advance(60.0)
    world.present(CANARY_CARD)
    await world.advance(8.0)
    world.display.choose(Choice.END)
    await world.advance(1.0)
    world.present(CANARY_CARD)
    await world.advance(2.0)
    return rental_id


def steps_of(path: Path) -> list[Replayed]:
    found = replay(read_records(path))
    return [each for each in found if isinstance(each, Replayed)]


def modes(steps: list[Replayed]) -> list[RentalMode]:
    """The modes that the replay went through, each once."""
    found = [step.decision.state.mode for step in steps]
    return [mode for n, mode in enumerate(found) if n == 0 or found[n - 1] != mode]


@pytest.fixture(scope="module")
def rental(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, World]:
    """One rental for all who only look at its recording."""
    directory = tmp_path_factory.mktemp("rental") / "recorder"

    async def live() -> tuple[bytes, World]:
        async with World(recordings=directory, vault=FakeVault(CANARY_PIN)) as world:
            return await whole_rental(world), world

    return directory, *asyncio.run(live())


def test_a_whole_rental_is_replayed_to_the_same_decisions(
    rental: tuple[Path, bytes, World],
) -> None:
    """Issue 4, point 7: from the recorded state, step by step, without a divergence."""
    directory, _, world = rental

    steps = steps_of(directory)

    assert [step.step.number for step in steps if step.diverged] == []
    assert modes(steps) == [
        RentalMode.AVAILABLE,
        RentalMode.RESERVED,
        RentalMode.STOPPED,
        RentalMode.DRIVING,
        RentalMode.STOPPED,
        RentalMode.PARKED,
        RentalMode.STOPPED,
        RentalMode.AVAILABLE,
    ]
    told = [type(e) for step in steps for e in step.decision.entries]
    assert told == [type(e) for step in world.steps for e in step.decision.entries]


def test_replaying_twice_gives_the_same(
    rental: tuple[Path, bytes, World],
) -> None:
    directory, _, _ = rental

    assert steps_of(directory) == steps_of(directory)


def test_no_pin_no_card_and_nothing_that_leads_to_one_is_kept(
    rental: tuple[Path, bytes, World],
) -> None:
    """H6, K2, K25: canaries of PIN, cards, secrets and place, and their hashes."""
    directory, rental_id, _ = rental

    kept = b"\n".join(read_lines(directory))

    canaries = dict(_canaries(rental_id))
    assert [name for name, form in canaries.items() if form in kept] == []
    # What was searched for is found where it is.
    assert rental_id in _unpacked_ids(kept)


def _canaries(rental_id: bytes) -> Iterator[tuple[str, bytes]]:
    secrets = {"pin": CANARY_PIN.encode(), "sealed": CANARY_SEALED}
    secrets["destination"] = CANARY_WORDS.encode()
    for name, uid in (("card", CANARY_CARD), ("stranger", CANARY_STRANGER)):
        secrets[name] = uid
        for number, bound in enumerate((rental_id, bytes(16))):
            secrets[f"{name}'s digest {number}"] = card_digest(bound, uid)
        for algorithm in ("md5", "sha1", "sha256", "blake2b"):
            secrets[f"{name}'s {algorithm}"] = hashlib.new(algorithm, uid).digest()
    for name, secret in secrets.items():
        yield f"{name} raw", secret
        yield f"{name} hex", secret.hex().encode()
        for offset in range(3):
            text = base64.b64encode(bytes(offset) + secret)
            yield f"{name} base64+{offset}", text[4 if offset else 0 : -4]
    yield "latitude", str(NOWHERE.latitude_e7).encode()
    yield "longitude", str(NOWHERE.longitude_e7).encode()


def _unpacked_ids(kept: bytes) -> set[bytes]:
    records = (parse_line(line) for line in kept.split(b"\n"))
    return {
        reservation.rental_id
        for found in replay(records)
        if isinstance(found, Replayed)
        and (reservation := found.decision.state.reservation) is not None
    }


def test_another_decision_than_the_car_made_is_told(
    rental: tuple[Path, bytes, World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mind that has changed since decides otherwise, and the replay says where."""
    directory, _, _ = rental
    monkeypatch.setattr("gateway.core.access.BOARDING_MS", 10**9)
    monkeypatch.setattr("gateway.core.access.DEBOUNCE_MS", 10**9)

    assert any(step.diverged for step in steps_of(directory))


async def test_a_recording_survives_power_cut_and_crash(tmp_path: Path) -> None:
    """A rental over two starts: each run is a file, and all of it is replayed."""
    directory = tmp_path / "recorder"
    async with World(recordings=directory) as world:
        await world.begin_rental()
        await world.power_cut()
        await world.end_rental()

    records = list(replay(read_records(directory)))

    assert len(recordings(directory)) == 2
    frames = [found for found in records if isinstance(found, Frame)]
    assert [frame.why for frame in frames] == ["file", "file"]
    assert frames[1].state.mode is RentalMode.STOPPED
    steps = [found for found in records if isinstance(found, Replayed)]
    assert not any(step.diverged for step in steps)
    assert steps[-1].decision.state.mode is RentalMode.AVAILABLE


def test_a_file_that_was_cut_off_is_good_up_to_there(
    rental: tuple[Path, bytes, World], tmp_path: Path
) -> None:
    directory, _, _ = rental
    [path] = recordings(directory)
    whole = path.read_bytes()
    cut_off = tmp_path / path.name
    cut_off.write_bytes(whole[: len(whole) * 2 // 3])

    assert 0 < len(steps_of(cut_off)) < len(steps_of(directory))


async def test_a_car_that_stands_is_hardly_written_about(tmp_path: Path) -> None:
    """Bounded flash wear: a board that reports each half second costs nothing."""
    directory = tmp_path / "recorder"
    async with World(recordings=directory) as world:
        world.positioning.position = NOWHERE
        await world.advance(30.0)
        before = sum(path.stat().st_size for path in recordings(directory))

        await world.advance(900.0)

        after = sum(path.stat().st_size for path in recordings(directory))
    assert len([s for s in world.steps if s.now.boot_ms]) > 1_000
    assert after - before < 1_000


def test_a_day_has_its_share_of_bytes_and_no_more(tmp_path: Path) -> None:
    """Whatever happens: a car that is flooded does not wear its flash out."""
    made = Ring(tmp_path)
    taken = 0
    for second in range(2_000):
        taken += made.append(os.urandom(4_096), now_ms=second * 1_000)
    made.close()

    allowed = ring.BURST_LIMIT + ring.DAY_LIMIT * 2_000 // 86_400
    assert 0 < taken < 2_000
    assert made.written <= allowed + 2 * 4_096


def test_the_ring_never_outgrows_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring, "DAY_LIMIT", 10**12)
    monkeypatch.setattr(ring, "BURST_LIMIT", 10**12)
    made = Ring(tmp_path)
    for number in range(60):
        made.append(os.urandom(ring.FILE_LIMIT // 3), now_ms=number)
        if number % 7 == 0:
            made.close()
    made.close()

    sizes = [path.stat().st_size for path in recordings(tmp_path)]
    assert sum(sizes) <= ring.RING_LIMIT + ring.FILE_LIMIT // 2
    assert len(sizes) >= 7


async def test_a_disk_that_takes_no_recording_stops_nothing(tmp_path: Path) -> None:
    """A file in the directory's place: doors open, and nothing is recorded."""
    blocked = tmp_path / "recorder"
    blocked.write_bytes(b"")
    async with World(recordings=blocked) as world:
        await world.begin_rental()
        await world.end_rental()

        assert world.state.mode is RentalMode.AVAILABLE
