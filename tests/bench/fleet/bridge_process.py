"""A bridge in a process of its own, which tells what it committed and what it cost.

The bridge is the production one (`bridge.bootstrap.open_bridge`). What is added, for
measuring: each committed batch leaves the numbers of its frames and the time behind it;
one thread verifies bare signatures now and then, so that the unit of comparison is
measured in the same process, run and crowd. Lines on stdin ask, lines on stdout answer;
the end of stdin ends the bridge.
"""

import argparse
import asyncio
import cProfile
import json
import sys
import threading
import time
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace
from nacl.bindings import crypto_sign, crypto_sign_open, crypto_sign_seed_keypair

from bridge.bootstrap import open_bridge
from bridge.committed import Committed
from bridge.ingest import Rejection, Verified
from bridge.interpreter import settle
from bridge.settings import StoreSettings
from bridge.store import Store
from tests.bench.fleet.cars import NUMBER_AT
from tools.bridge_settings import local_settings

UNNUMBERED: Final = bytes(16)
"""The number of HELLOs."""

BARE_CALLS: Final = 16
BARE_EACH_S: Final = 0.4
BARE_THREAD: Final = "bare-verification"
VERIFYING: Final = "verifying process"
"""Named beside the threads, since its work is the bridge's too."""

SIGNED_BYTES: Final = 160
"""What a telemetry frame of one sample signs, about."""


class CommitLog:
    """Which frames were committed when."""

    def __init__(self) -> None:
        self.numbers: list[bytes] = []
        self.batches: list[tuple[int, float]] = []
        self.rejected = 0

    def watch(self) -> None:
        """Listen to every commit of this process."""
        commit = Store.commit_batch

        async def commit_batch(
            store: Store, records: Sequence[Verified | Rejection], **named: object
        ) -> Committed:
            committed = await commit(store, records, **named)  # type: ignore[arg-type] # passed on as it came
            now = time.monotonic()
            numbers = [
                record.frame.data[NUMBER_AT]
                for record in records
                if not isinstance(record, Rejection)
            ]
            self.rejected += len(records) - len(numbers)
            if UNNUMBERED in numbers:
                numbers = [number for number in numbers if number != UNNUMBERED]
            self.numbers += numbers
            self.batches.append((len(self.numbers), now))
            return committed

        Store.commit_batch = commit_batch  # type: ignore[method-assign, assignment] # for measuring

    def write(self, path: Path) -> None:
        """Write number and time of each frame: 8 bytes and a double each."""
        numbers, times = array("Q"), array("d")
        begin = 0
        for end, at_s in self.batches:
            for raw in self.numbers[begin:end]:
                numbers.append(int.from_bytes(raw[8:], "big") - 1)
                times.append(at_s)
            begin = end
        with path.open("wb") as file:
            numbers.tofile(file)
            times.tofile(file)


class BareVerifier(threading.Thread):
    """Measures one bare verification by libsodium, again and again."""

    def __init__(self) -> None:
        super().__init__(name=BARE_THREAD, daemon=True)
        self.calls = 0
        self.took_s = 0.0
        public, secret = crypto_sign_seed_keypair(bytes(range(32)))
        self._signed = crypto_sign(bytes(SIGNED_BYTES), secret)
        self._public = public

    def run(self) -> None:
        """Verify until the process ends."""
        while True:
            begin = time.thread_time()
            for _ in range(BARE_CALLS):
                crypto_sign_open(self._signed, self._public)
            self.took_s += time.thread_time() - begin
            self.calls += BARE_CALLS
            time.sleep(BARE_EACH_S)


def _used(bare: BareVerifier) -> dict[str, object]:
    threads: dict[str, float] = {}
    for thread in threading.enumerate():
        path = Path(f"/proc/self/task/{thread.native_id}/schedstat")
        name = thread.name.rsplit("_", 1)[0]
        spent_ns = int(path.read_text(encoding="ascii").split()[0])
        threads[name] = threads.get(name, 0.0) + spent_ns / 1e9
    beside_s = _children_s()
    return {
        "process_s": time.process_time() + beside_s,
        "threads_s": {**threads, VERIFYING: beside_s},
        "bare_s": bare.took_s,
        "bare_calls": bare.calls,
    }


def _children_s() -> float:
    """Return what the processes that the bridge started have spent."""
    lists = Path("/proc/self/task").glob("*/children")
    children = {pid for one in lists for pid in one.read_text("ascii").split()}
    stats = [Path(f"/proc/{pid}/schedstat").read_text("ascii") for pid in children]
    return sum(int(stat.split()[0]) for stat in stats) / 1e9


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(one for one in status.splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


async def _serve(options: argparse.Namespace) -> None:
    log, bare = CommitLog(), BareVerifier()
    log.watch()
    settings = local_settings(
        options.fleet,
        state=options.state,
        broker=("127.0.0.1", options.port),
        api=("127.0.0.1", 0),
        json_lines=options.state / "events.jsonl",
    )
    if options.store_url is not None:
        settings = replace(settings, store=StoreSettings(url=options.store_url))
    loop = asyncio.get_running_loop()
    async with open_bridge(settings) as bridge:
        await bridge.wait_connected()
        bare.start()
        settle()
        _say({"api": bridge.api_url})
        profile = cProfile.Profile()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            word, _, rest = line.strip().partition(" ")
            if word == "used":
                _say(_used(bare))
            elif word == "count":
                _say(
                    {
                        "committed": len(log.numbers),
                        "rejected": log.rejected,
                        "batches": len(log.batches),
                    }
                )
            elif word == "log":
                log.write(Path(rest))
                _say({"resident_mb": _resident_mb()})
            elif word == "profile":
                profile.enable()
                _say({})
            elif word == "profiled":
                profile.disable()
                profile.dump_stats(rest)
                _say({})


def _say(answer: object) -> None:
    print(json.dumps(answer), flush=True)


def main() -> None:
    """Run until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fleet", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--store-url", help="a PostgreSQL instead of SQLite")
    asyncio.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
