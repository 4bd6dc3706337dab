"""nfcpy through its own ``udp:`` driver: I-14, I-15, reliability.md row 10."""

import asyncio
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from gateway.core.events import CardPresented, ReaderLost, ReaderRecovered
from gateway.hardware import nfc_reader
from gateway.hardware.errors import DeviceUnavailableError
from gateway.hardware.nfc_reader import NfcReader, open_frontend, probe
from tests.gateway.hardware.ear import running
from tests.gateway.hardware.simulated_card import CardField, card_field

DESFIRE = bytes.fromhex("04a1b2c3d4e5f6")
CLASSIC = bytes.fromhex("9c2e4f11")
RANDOM = bytes.fromhex("08112233")
DESFIRE_EV1_RANDOM = bytes.fromhex("80a1b2c3")


@pytest.fixture
async def field() -> AsyncIterator[CardField]:
    async with card_field() as field:
        yield field


@pytest.mark.device
async def test_one_tap_is_one_event_however_long_the_card_stays(
    field: CardField,
) -> None:
    # I-14
    async with running(NfcReader(field.path).run) as ear:
        field.uid = DESFIRE
        await ear.hear(CardPresented)
        await field.scanned(8)

    assert ear.events == [CardPresented(DESFIRE)]


@pytest.mark.device
async def test_a_card_that_is_taken_away_and_held_again_is_a_second_tap(
    field: CardField,
) -> None:
    async with running(NfcReader(field.path).run) as ear:
        field.uid = DESFIRE
        await ear.hear(CardPresented)
        field.uid = None
        await field.scanned(3)
        field.uid = DESFIRE
        await ear.hear(CardPresented, nth=2)
        await field.scanned(3)

    assert ear.events == [CardPresented(DESFIRE)] * 2


@pytest.mark.device
async def test_a_card_that_changes_its_uid_under_the_reader_is_one_tap(
    field: CardField,
) -> None:
    # Row 10, flood of tags: random UIDs and a wallet of cards are one tap (I-14).
    async with running(NfcReader(field.path).run) as ear:
        field.uid_at_scan = lambda scan: bytes([0x08, scan % 256, 1, 2])
        await ear.hear(CardPresented)
        await field.scanned(6)

    assert len(ear.events) == 1


@pytest.mark.device
@pytest.mark.parametrize("uid", [CLASSIC, RANDOM, DESFIRE_EV1_RANDOM, DESFIRE])
async def test_a_uid_is_reported_as_it_is(field: CardField, uid: bytes) -> None:
    # domain-facts.md 4.1: whether a random UID is good for anything, the core says.
    field.uid = uid

    async with running(NfcReader(field.path).run) as ear:
        event = await ear.hear(CardPresented)

    assert event.uid == uid


@pytest.mark.device
async def test_a_reader_that_talks_nonsense_is_lost_and_comes_back(
    field: CardField,
) -> None:
    # I-15, row 10: reported once, no card, and a tap afterwards works.
    field.nonsense = b"106A zz"

    async with running(NfcReader(field.path).run) as ear:
        await ear.hear(ReaderLost)
        await field.scanned(nfc_reader.MAX_GARBLED + 2)
        field.nonsense = None
        field.uid = DESFIRE
        await ear.hear(CardPresented)

    assert ear.events == [ReaderLost(), ReaderRecovered(), CardPresented(DESFIRE)]


class StubbornFrontend:
    """A reader whose driver never comes back, as nfcpy's would with a dead USB hub."""

    def __init__(self, release: threading.Event) -> None:
        self._release = release
        self.hangs = False

    def sense(self, _target: object, /) -> None:
        self.hangs = True
        self._release.wait(20)

    def close(self) -> None:
        """Nothing to give back."""


class FlakyFrontend:
    """A reader with a card on it that is unplugged after three scans."""

    def __init__(self) -> None:
        self.scans = 0

    def sense(self, _target: object, /) -> object:
        self.scans += 1
        if self.scans > 3:
            raise OSError(19, "No such device")
        return SimpleNamespace(sdd_res=bytearray(DESFIRE))

    def close(self) -> None:
        raise OSError(19, "No such device")


async def test_a_reader_that_hangs_is_lost_within_five_seconds() -> None:
    # I-15 (F): gone, hung, mute
    release = threading.Event()
    reader = NfcReader("hung", opener=lambda _path: StubbornFrontend(release))
    loop = asyncio.get_running_loop()
    started = loop.time()

    async with running(reader.run) as ear:
        await ear.hear(ReaderLost)
        elapsed_s = loop.time() - started
        release.set()
        await ear.hear(ReaderRecovered)

    assert elapsed_s <= 5.0
    assert ear.events == [ReaderLost(), ReaderRecovered()]


async def test_threads_that_hang_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # Row 12: no leak, however often it is tried.
    monkeypatch.setattr(nfc_reader, "HANG_S", 0.02)
    monkeypatch.setattr(nfc_reader, "REOPEN_S", 0.01)
    release = threading.Event()
    opened: list[StubbornFrontend] = []

    def opener(_path: str) -> StubbornFrontend:
        opened.append(StubbornFrontend(release))
        return opened[-1]

    def hanging() -> int:
        # Not how many were opened: a thread that is given up before its first scan,
        # as on a slow machine, sees that it shall stop and ends by itself.
        return sum(frontend.hangs for frontend in opened)

    async with running(NfcReader("hung", opener=opener).run) as ear:
        await ear.hear(ReaderLost)
        async with asyncio.timeout(20):
            while hanging() < nfc_reader.MAX_HUNG:  # noqa: ASYNC110 - a thread counts
                await asyncio.sleep(0.01)
        attempts = len(opened)
        await asyncio.sleep(0.3)  # ten times what another attempt takes
        assert hanging() == nfc_reader.MAX_HUNG
        assert len(opened) == attempts
        release.set()

    assert ear.events == [ReaderLost()]


async def test_an_unplugged_reader_is_lost_once_and_a_card_left_on_it_is_no_new_tap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # I-14, I-15 (F)
    monkeypatch.setattr(nfc_reader, "REOPEN_S", 0.01)
    attempts = 0

    def opener(_path: str) -> FlakyFrontend:
        nonlocal attempts
        attempts += 1
        if 1 < attempts < 5:
            raise DeviceUnavailableError("card reader", "no such device", "plug it in")
        return FlakyFrontend()

    async with running(NfcReader("flaky", opener=opener).run) as ear:
        await ear.hear(ReaderRecovered)

    assert ear.events == [CardPresented(DESFIRE), ReaderLost(), ReaderRecovered()]


async def test_a_card_without_a_uid_of_this_kind_opens_nothing() -> None:
    scans = threading.Semaphore(0)

    class TypeOne(FlakyFrontend):
        def sense(self, _target: object, /) -> object:
            scans.release()
            return SimpleNamespace(sdd_res=None)

        def close(self) -> None:
            """Nothing to give back."""

    async with running(NfcReader("t1t", opener=lambda _path: TypeOne()).run) as ear:
        for _ in range(3):
            await asyncio.to_thread(scans.acquire, timeout=5)

    assert ear.events == []


@pytest.mark.parametrize("path", ["", "nonsense", "tty:NOPE0:pn532", "usb:ffff:ffff"])
def test_a_reader_that_is_not_there_is_named_with_what_to_do(path: str) -> None:
    with pytest.raises(DeviceUnavailableError) as caught:
        open_frontend(path)

    assert str(caught.value).startswith(f"card reader {path}")
    assert "check the cable" in caught.value.advice


@pytest.mark.device
def test_a_probe_says_what_it_found() -> None:
    assert "IP-Stack" in probe("udp:127.0.0.1:54399")
