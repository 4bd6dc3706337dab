"""The load generator as Python sees it: it plans, and a program in C does the rest.

Every packet that a car will send is laid out here, in the order of sending, and written
to a plan that the program maps into its memory. swarm.c says how the program works,
what the plan looks like and which lines it reads and answers.
"""

import contextlib
import subprocess
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from protocol.codes import FrameClass
from protocol.frame import HEADER_SIZE
from tests.bench.fleet.cars import BenchCar
from tests.bench.fleet.program import let_end

MAGIC: Final = b"FFSWARM1"

KEEPALIVE_S: Final = 3_600
"""Longer than any run, so that nobody pings."""

SUBSCRIBE_ID: Final = 1
HELLO_ID: Final = 2
"""Packet ids; those of the frames follow."""

LARGEST_ID: Final = 65_535

SEQUENCE: Final = slice(52, 60)
"""Where a frame has its sequence number."""

UPTO_AT: Final = HEADER_SIZE + 8
"""A receipt's payload begins with the ledger id, then the last entry's sequence."""

CLOSE_S: Final = 30.0
"""The program ends at once when its stdin does; a machine may be loaded."""


def _text(value: str) -> bytes:
    raw = value.encode()
    return len(raw).to_bytes(2, "big") + raw


def _packet(kind: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, low = divmod(size, 128)
        length.append(low | (128 if size else 0))
        if not size:
            return bytes([kind]) + bytes(length) + body


def _connect(car: BenchCar) -> bytes:
    body = _text("MQTT") + b"\5\2" + KEEPALIVE_S.to_bytes(2, "big") + b"\0"
    return _packet(0x10, body + _text(car.name))


def _subscribe(car: BenchCar) -> bytes:
    body = SUBSCRIBE_ID.to_bytes(2, "big") + b"\0" + _text(car.downlinks) + b"\1"
    return _packet(0x82, body)


def _publish(topic: str, packet_id: int, frame: bytes) -> bytes:
    body = _text(topic) + packet_id.to_bytes(2, "big") + b"\0" + frame
    return _packet(0x32, body)


def _part(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _plan(cars: Sequence[BenchCar], frames: int) -> Iterator[bytes]:
    yield MAGIC
    for number in (len(cars), frames, UPTO_AT):
        yield number.to_bytes(4, "big")
    for car in cars:
        hello = f"ff/v1/{car.name}/up/{FrameClass.HELLO.label}"
        yield _part(car.name.encode())
        yield _part(bytes(car.certificate) + b"\0")
        yield _part(bytes(car.key) + b"\0")
        yield _part(_connect(car))
        yield _part(_subscribe(car))
        yield _part(_publish(hello, HELLO_ID, car.hello))
    for number in range(frames):
        turn, place = divmod(number, len(cars))
        topic, frame, own = cars[place].frames[turn]
        if own != number:
            raise ValueError(f"frame {number} is not dealt to the cars in turn")
        sequence = frame[SEQUENCE] if topic.endswith("event") else bytes(8)
        packet_id = (HELLO_ID + turn) % LARGEST_ID + 1
        yield sequence + _part(_publish(topic, packet_id, frame))


class Swarm:
    """All cars; connect, settle, run, close.

    Whatever goes wrong ends the program. `connect`, `settle` and `run` then raise:

    ConnectionError: a connection was refused or ended; it names the car.
    TimeoutError: it took too long.
    RuntimeError: the program itself ended.
    """

    def __init__(
        self,
        cars: Sequence[BenchCar],
        *,
        port: int,
        trust_anchors: Path,
        program: Path,
        directory: Path,
    ) -> None:
        """Start the program; nothing is connected yet.

        Args:
            cars: with frames that were dealt to them in turn.
            port: of the broker, on loopback.
            trust_anchors: what the broker's certificate is judged by.
            program: as `build_program` returned it.
            directory: exists; for the plan, the results and what the program says.
        """
        self._frames = sum(len(car.frames) for car in cars)
        self._results = directory / "swarm.results"
        self.published_s = array("d")
        """When each frame was handed to its socket, by number; monotonic seconds."""
        self.receipt_ms = array("d")
        """For each ledger entry: from publish to the signed receipt."""
        self.late_ms = 0.0
        """By how much the generator itself was ever behind its clock."""
        self.acknowledged = 0
        """PUBACKs of the broker."""
        self.unreceipted = 0
        """Ledger entries that have no receipt yet."""
        self.spent_s = 0.0
        """CPU of the program while it published and drained."""
        plan = directory / "swarm.plan"
        with plan.open("wb") as file:
            file.writelines(_plan(cars, self._frames))
        self._errors = (directory / "swarm.log").open("wb")
        self._process = subprocess.Popen(
            [program, plan, str(port), trust_anchors],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    def connect(self, *, timeout_s: float) -> float:
        """Connect, subscribe and say HELLO with every car; return how long it took."""
        [took_s] = self._ask(f"connect {timeout_s}", "connected")
        return float(took_s)

    def settle(self, quiet_s: float) -> None:
        """Answer what comes until nothing came for a while: receipts of the HELLOs."""
        self._ask(f"settle {quiet_s}", "settled")

    def run(
        self, *, rate: float, is_committed: Callable[[], bool], drain_s: float
    ) -> float:
        """Publish every prepared frame at `rate` a second, then wait for the rest.

        Args:
            rate: frames a second over all cars.
            is_committed: asked whether the bridge has everything, while draining, once
                nothing else is owed, and once a second at most.
            drain_s: how long to wait for acknowledgements and receipts at the end.

        Returns:
            Seconds from the first to the last publish.
        """
        before_s = self._used_s()
        self._say(f"run {rate} {drain_s}")
        while (answer := self._answer())[0] == "idle":
            self._say("end" if is_committed() else "more")
        self.spent_s = self._used_s() - before_s
        words = self._after("ran", answer)
        self.late_ms = float(words[1])
        self.acknowledged, self.unreceipted = int(words[2]), int(words[3])
        self._ask(f"write {self._results}", "written")
        with self._results.open("rb") as file:
            self.published_s.fromfile(file, self._frames)
            self.receipt_ms.fromfile(file, int(words[4]))
        return float(words[0])

    def close(self) -> None:
        """End the program, whatever it is doing; its sockets go with it."""
        let_end(self._process, within_s=CLOSE_S)
        self._errors.close()

    def _used_s(self) -> float:
        """Return the CPU that the program has had; it has one thread."""
        path = Path(f"/proc/{self._process.pid}/schedstat")
        return int(path.read_text(encoding="ascii").split()[0]) / 1e9

    def _ask(self, line: str, answer: str) -> list[str]:
        self._say(line)
        return self._after(answer, self._answer())

    def _say(self, line: str) -> None:
        stdin = self._process.stdin
        if stdin is None:
            raise RuntimeError("the load generator has no stdin")
        # If it has ended, its last line says why, and is read next.
        with contextlib.suppress(BrokenPipeError):
            stdin.write(f"{line}\n")
            stdin.flush()

    def _answer(self) -> tuple[str, str]:
        stdout = self._process.stdout
        line = stdout.readline() if stdout is not None else ""
        word, _, rest = line.strip().partition(" ")
        if word == "failed":
            raise ConnectionError(rest)
        if word == "timeout":
            raise TimeoutError(rest)
        if not word:
            raise RuntimeError(f"the load generator ended; see {self._errors.name}")
        return word, rest

    def _after(self, word: str, answer: tuple[str, str]) -> list[str]:
        if answer[0] != word:
            raise RuntimeError(f"the load generator said {answer} instead of {word!r}")
        return answer[1].split()
