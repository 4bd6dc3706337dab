"""The one queue of the shell: what it does, one thing after another."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.ports import StoreError

Work = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Job:
    work: Work
    done: "asyncio.Future[None] | None"


class Mailbox:
    """Jobs in order; a job's failure goes to whoever waits for it."""

    def __init__(self) -> None:
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._is_closed = False

    def __len__(self) -> int:
        return self._jobs.qsize()

    def post(self, work: Work) -> None:
        """Queue a job that nobody waits for; never blocks."""
        self._jobs.put_nowait(_Job(work, None))

    async def ask(self, work: Work) -> None:
        """Queue a job and wait until it is done; what it raises is raised here.

        A caller that gives up does not take the job back.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.put_nowait(_Job(work, done))
        if self._is_closed:
            done.cancel()
        await done

    async def do_next(self) -> None:
        """Wait for the next job and do it.

        Raises:
            StoreError: the job failed for want of the store.
        """
        job = await self._jobs.get()
        try:
            await job.work()
        except StoreError as error:
            if job.done is not None and not job.done.done():
                job.done.set_exception(error)
            raise
        except BaseException:
            if job.done is not None:
                job.done.cancel()
            raise
        if job.done is not None and not job.done.done():
            job.done.set_result(None)

    def close(self) -> None:
        """Give up what waits, and what still comes: whoever waits is cancelled."""
        self._is_closed = True
        while not self._jobs.empty():
            job = self._jobs.get_nowait()
            if job.done is not None:
                job.done.cancel()
