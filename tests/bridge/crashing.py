"""A bridge that kills itself at one point of its loop; run by test_failpoints.

    python -m tests.bridge.crashing FLEET DATABASE POINT

Prints a line for every acknowledgement and receipt that left the process, as broker and
car would have seen it, then dies by SIGKILL.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from certs.fleet import FleetDirectory
from protocol.codes import FrameClass
from tests.bridge.car import receipt_of
from tests.bridge.memory_broker import MemoryLink, Message
from tests.bridge.stream import entries_of
from tests.bridge.world import World

POINTS = ("receive", "verify", "before commit", "after commit", "ack", "forward")


class Fuse:
    """Kills this process at a point, once one batch is through."""

    def __init__(self, point: str) -> None:
        self._point = point
        self._passed = 0

    def at(self, point: str) -> None:
        if point != self._point:
            return
        self._passed += 1
        if self._passed > 1:
            os.kill(os.getpid(), signal.SIGKILL)


def tell(*words: object) -> None:
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")
    sys.stdout.flush()


def arm(world: World, fuse: Fuse) -> None:
    """Put the fuse between the steps of the bridge's loop."""
    intake: Any = world.intake
    store: Any = world.store
    link_class: Any = MemoryLink
    prover = intake._prover
    take, judge, commit = MemoryLink.take, prover.judge, store.commit_batch

    async def receive(link: MemoryLink, limit: int) -> list[Message]:
        messages = await take(link, limit)
        fuse.at("receive")
        return messages

    def checked(*batch: Any) -> Any:
        found = judge(*batch)
        fuse.at("verify")
        return found

    async def committing(*args: Any, **kwargs: Any) -> Any:
        fuse.at("before commit")
        committed = await commit(*args, **kwargs)
        fuse.at("after commit")
        return committed

    link_class.take, prover.judge = receive, checked
    store.commit_batch = committing


def listen(fuse: Fuse) -> None:
    """Tell what broker and car get to know."""
    message_class: Any = Message
    link_class: Any = MemoryLink
    done, post = Message.done, MemoryLink.post

    def acknowledge(message: Message) -> None:
        fuse.at("ack")
        done(message)
        tell("ack", message.payload.hex())

    def send(
        link: MemoryLink, topic: str, data: bytes, *, expiry_s: int | None = None
    ) -> None:
        fuse.at("forward")
        post(link, topic, data, expiry_s=expiry_s)
        tell("receipt", receipt_of(data).upto)

    message_class.done, link_class.post = acknowledge, send


async def run(fleet: Path, database: Path, point: str) -> None:
    async with World(FleetDirectory.open(fleet), database) as world:
        fuse = Fuse(point)
        arm(world, fuse)
        listen(fuse)
        for data in entries_of(world.car):
            world.deliver(FrameClass.EVENT, data)
            await asyncio.sleep(0.02)
        await asyncio.sleep(5)


if __name__ == "__main__":
    asyncio.run(run(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
