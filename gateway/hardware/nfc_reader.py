"""The card reader behind nfcpy: `gateway.ports.Reader`.

The one file that imports nfcpy, which is EUPL-1.1 and an optional part of the
installation (extra ``nfc``). It is imported when a reader is opened and not before:
libusb1, which it needs, runs ldconfig and a compiler while it is imported, to find its
library, and importing a package of freefloat shall do nothing.

nfcpy waits in its calls, so a thread scans and the event loop judges: what begins a tap
(`tap`), and whether the thread still comes round. A scan is ISO/IEC 14443 type A at
106 kbit/s only; a card of another type is not seen at all. Each scan is taken as it is,
random UIDs included: whether a UID is good for anything is for the core to say.

A reader that cannot be opened, fails, talks nonsense or hangs is lost: said once, then
opened anew every second (I-15). Its loss opens nothing; doors still unlock by command.

nfcpy's ``udp:`` driver replaces the radio in tests. Here it is the initiator and sends
to the host of the path, so name one: ``udp:127.0.0.1:54321``. Its other role, the
listener, binds to all addresses of the machine (nfcpy 1.0.4 clf/udp.py, _bind_socket);
nothing of freefloat uses it, and a simulated card binds to loopback by itself.
"""

import asyncio
import importlib.util
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.core.events import CardPresented, ReaderLost, ReaderRecovered
from gateway.hardware.errors import DeviceUnavailableError
from gateway.hardware.tap import TapDetector
from gateway.ports import Report

SCAN_PAUSE_S: Final = 0.1
"""Between two scans: a tap takes a person 0.3 s or more, and the radio rests."""

HANG_S: Final = 4.0
"""A scan that takes longer is one that hangs; an empty field takes nfcpy 1.0 s over
``udp:``, less over USB, opening a reader about 1 s. Below the 5 s of I-15."""

REOPEN_S: Final = 1.0
"""Between two attempts to open a reader that is gone."""

MAX_GARBLED: Final = 10
"""Scans in a row that end in nonsense make a reader lost: no card does that."""

MAX_HUNG: Final = 3
"""Threads that hang in a driver and cannot be ended; beyond that the process has to be
started again, and only its supervisor can do that."""

END_S: Final = 2.0
"""How long the end waits for a scan that is under way."""

_LOG: Final = logging.getLogger(__name__)


class Frontend(Protocol):
    """What is used of `nfc.ContactlessFrontend`."""

    def sense(self, target: Any, /) -> Any:  # noqa: ANN401 - nfcpy has no annotations
        """Look for a card; return what was found or None."""

    def close(self) -> object:
        """Give the reader back."""


def open_frontend(path: str) -> Frontend:
    """Open the reader that nfcpy finds under a path.

    Raises:
        DeviceUnavailableError: there is none, or it cannot be opened.
    """
    import nfc  # noqa: PLC0415 - see the module's docstring

    try:
        # nfcpy takes an empty path for "open nothing yet".
        frontend: Frontend = nfc.ContactlessFrontend(path or "none")
    except Exception as error:
        # nfcpy lets whatever its drivers meet pass: OSError, usb1.USBError, KeyError.
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DeviceUnavailableError(
            f"card reader {path}",
            str(reason).lower(),
            "check the cable, the path (such as usb:054c:06c3, tty:AMA0:pn532 or "
            "udp:127.0.0.1:54321), and that the user may open the device",
        ) from error
    return frontend


def is_installed() -> bool:
    """Return whether nfcpy is there, without importing it."""
    return importlib.util.find_spec("nfc") is not None


def probe(path: str) -> str:
    """Open a reader, give it back and return how it describes itself.

    Raises:
        DeviceUnavailableError: it cannot be opened.
    """
    frontend = open_frontend(path)
    described = str(frontend)
    frontend.close()
    return described


@dataclass(frozen=True, slots=True)
class _Scanned:
    uid: bytes | None


@dataclass(frozen=True, slots=True)
class _Opened:
    pass


@dataclass(frozen=True, slots=True)
class _Ended:
    why: str


class NfcReader:
    """A reader on nfcpy; implements `gateway.ports.Reader`.

    Args:
        path: where nfcpy finds it.
        opener: opens it; a test may put another in its place.
    """

    def __init__(
        self, path: str, *, opener: Callable[[str], Frontend] = open_frontend
    ) -> None:
        """Keep the settings; nothing is opened."""
        self._path = path
        self._opener = opener
        self._taps = TapDetector()
        self._is_lost = False
        self._hung: list[_Scanner] = []
        self._scanned = asyncio.Event()

    async def run(self, report: Report) -> None:
        """Report taps, losses and recoveries until cancelled."""
        while True:
            self._hung = [scanner for scanner in self._hung if scanner.is_alive]
            if len(self._hung) < MAX_HUNG:
                why = await self._scan(report)
            else:
                why = f"{MAX_HUNG} scans hang in the driver: restart the gateway"
            if not self._is_lost:
                self._is_lost = True
                _LOG.warning("= reader lost: %s", why)
                report(ReaderLost())
            await asyncio.sleep(REOPEN_S)

    async def probe(self) -> None:
        """Return when the next scan has ended, with or without a card."""
        self._scanned.clear()
        await self._scanned.wait()

    async def _scan(self, report: Report) -> str:
        """Scan until the reader is lost; return why it is."""
        scanner = _Scanner(self._path, self._opener)
        scanner.start()
        try:
            while True:
                said = await scanner.next(HANG_S)
                if said is None:
                    self._hung.append(scanner)
                    return f"hangs for {HANG_S:g} s"
                if isinstance(said, _Ended):
                    return said.why
                if isinstance(said, _Scanned):
                    self._judge(said, report)
        finally:
            scanner.stop()
            if scanner not in self._hung:
                await scanner.ended(END_S)

    def _judge(self, said: _Scanned, report: Report) -> None:
        self._scanned.set()
        if self._is_lost:
            self._is_lost = False
            _LOG.info("= reader answers again")
            report(ReaderRecovered())
        now_ms = int(asyncio.get_running_loop().time() * 1000)
        uid = self._taps.scan(said.uid, now_ms=now_ms)
        if uid is not None:
            _LOG.info("< card with a UID of %d bytes", len(uid))
            report(CardPresented(uid))


class _Scanner:
    """A thread that scans, and what it says, handed over to the event loop."""

    def __init__(self, path: str, opener: Callable[[str], Frontend]) -> None:
        self._path = path
        self._opener = opener
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Queue[_Opened | _Scanned | _Ended] = asyncio.Queue()
        self._ended = asyncio.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name="card reader", daemon=True
        )

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    async def next(self, timeout_s: float) -> _Opened | _Scanned | _Ended | None:
        """Return the next thing said, None if nothing is said in time."""
        # Not wait_for: in Python 3.11 it swallows a cancellation that meets a result
        # (https://github.com/python/cpython/issues/86296).
        try:
            async with asyncio.timeout(timeout_s):
                return await self._said.get()
        except TimeoutError:
            return None

    async def ended(self, timeout_s: float) -> None:
        """Return when the thread has given the reader back, or after the time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()

    def _say(self, what: _Opened | _Scanned | _Ended) -> None:
        # A loop that is closed has nobody left to tell.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._said.put_nowait, what)

    def _run(self) -> None:
        try:
            self._say(_Ended(self._scan_until_stopped()))
        finally:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._ended.set)

    def _scan_until_stopped(self) -> str:
        try:
            frontend = self._opener(self._path)
        except DeviceUnavailableError as error:
            return str(error)
        import nfc.clf  # noqa: PLC0415 - see the module's docstring

        self._say(_Opened())
        garbled = 0
        try:
            while not self._stop.is_set():
                try:
                    uid = _sense(frontend)
                except (nfc.clf.CommunicationError, ValueError, LookupError):
                    # Half a card or noise: nfcpy indexes and decodes what it got. It
                    # says neither that a card is there nor that the field is empty.
                    garbled += 1
                    if garbled >= MAX_GARBLED:
                        return f"{MAX_GARBLED} scans in a row ended in nonsense"
                else:
                    garbled = 0
                    self._say(_Scanned(uid))
                self._stop.wait(SCAN_PAUSE_S)
        except Exception as error:  # noqa: BLE001 - whatever a driver meets: reader lost
            return str(error).lower() or type(error).__name__
        finally:
            with suppress(Exception):  # a reader that is gone cannot be closed
                frontend.close()
        return "stopped"


def _sense(frontend: Frontend) -> bytes | None:
    import nfc.clf  # noqa: PLC0415 - see the module's docstring

    target = frontend.sense(nfc.clf.RemoteTarget("106A"))
    if target is None:
        return None
    # A type 1 tag has no UID of this kind: a card that opens nothing.
    return bytes(target.sdd_res or b"")
