"""A car's process that kills itself at one sync of its ledger (test_process_kill).

    python -m tests.gateway.crashing DIRECTORY SYNC

The ledger is a real file. Before and after the n-th sync that SQLite asks for, half a
point each, the process dies by SIGKILL; 0 lets it live. A line is printed for what had
become durable: commands that were accepted, results, and the number of syncs.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final

import apsw

from gateway.ports import Store
from gateway.storage.ledger_store import LedgerStore
from gateway.storage.worker import InlineWorker
from protocol.codes import LockMode
from protocol.command import ANY_VERSION, FlashHazards, Lock, Unlock
from protocol.result import Result
from protocol.snapshot import NO_RENTAL
from tests.gateway.powerloss import DiskVfs
from tests.gateway.world import SIGNER, SeededBytes, StoreFactory, World

VFS: Final = "dying"


class Fuse:
    """Counts syncs twice, before and after, and kills at one of them."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.passed = 0

    def pass_by(self) -> None:
        self.passed += 1
        if self.passed == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


class DyingFile(apsw.VFSFile):
    """A real file whose sync may be the last thing of the process."""

    fuse: Fuse

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        self.fuse.pass_by()
        super().xSync(flags)
        self.fuse.pass_by()


class DyingVfs(apsw.VFS):
    """The system's files, with the fuse in each."""

    def __init__(self, fuse: Fuse) -> None:
        self._fuse = fuse
        super().__init__(VFS, "")

    def xOpen(self, name: Any, flags: list[int]) -> DyingFile:  # noqa: N802
        file = DyingFile("", name, flags)
        file.fuse = self._fuse
        return file


def real_store(directory: Path, *, start: int, vfs: str | None = None) -> StoreFactory:
    """Return what makes a car's store on a real file."""

    def make(_disk: DiskVfs) -> Store:
        return LedgerStore(
            directory / "ledger.db",
            worker=InlineWorker(),
            random_bytes=SeededBytes(start),
            signer=SIGNER,
            checkpoint_pages=12,
            vfs=vfs,
        )

    return make


def tell(*words: object) -> None:
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


async def live(directory: Path, fuse: Fuse) -> None:
    """Rent, and obey a few commands of every kind."""
    world = World(store=real_store(directory, start=1, vfs=VFS))
    world.fleet.gives_receipts = False
    async with world:
        told = 0

        def show() -> None:
            nonlocal told
            for step in world.steps[told:]:
                if step.decision.accepted is not None:
                    tell("accepted", step.decision.accepted.msg_id.hex())
                for body in step.decision.entries:
                    if isinstance(body, Result):
                        tell("ended", body.request_id.hex())
            told = len(world.steps)

        append = world.steps.append

        def watched(step: Any) -> None:
            append(step)
            show()

        world.gateway._runtime._observer = watched  # a spy
        fuse.passed = 0
        rental_id = await world.begin_rental()
        for command in (
            FlashHazards(NO_RENTAL, ANY_VERSION, 3),
            Lock(rental_id, ANY_VERSION, LockMode.PLAIN),
            Unlock(rental_id, ANY_VERSION),
            FlashHazards(NO_RENTAL, ANY_VERSION, 4),
        ):
            world.fleet.send(command)
            await world.advance(3.0)
        tell("syncs", fuse.passed)


def main() -> None:
    """Live until the fuse blows."""
    fuse = Fuse(int(sys.argv[2]))
    vfs = DyingVfs(fuse)
    asyncio.run(live(Path(sys.argv[1]), fuse))
    vfs.unregister()


if __name__ == "__main__":
    main()
