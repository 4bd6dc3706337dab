"""Ending a process without waiting for threads that nobody needs any more.

Python waits at its end for every thread of every pool. One that asks a silent name
server for an address comes back after half a minute, and nobody wants to know the
address then; what is to be kept was closed in order before (`bridge.ending`).
"""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NoReturn, TypeVar

from tools.console import flush

LEAVE_S: Final = 2.0
"""How long threads may take to end by themselves; idle ones of a pool do at once."""

T = TypeVar("T")


class _Unjoined(ThreadPoolExecutor):
    """A loop's default pool, whose end waits for nobody."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002 - who would wait is asyncio.run
        super().shutdown(wait=False, cancel_futures=cancel_futures)


def run_unjoined(work: Coroutine[Any, Any, T]) -> T:
    """Do as `asyncio.run`, but wait for no thread of the default pool at the end."""

    async def whole() -> T:
        asyncio.get_running_loop().set_default_executor(
            _Unjoined(thread_name_prefix="asyncio")
        )
        return await work

    return asyncio.run(whole())


def leave(code: int) -> NoReturn:
    """End the process with this exit code, as `sys.exit`; after `LEAVE_S` at once."""
    late = threading.Timer(LEAVE_S, _leave_at_once, [code])
    late.daemon = True
    late.start()
    sys.exit(code)


def _leave_at_once(code: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        flush()
    os._exit(code)
