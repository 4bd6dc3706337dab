"""The parts that run side by side in a gateway, each of which can be started anew.

A part is a coroutine that runs until it is cancelled: reader, board, uplink. To start
it anew is to cancel it, wait until it has let go of its device, and run it again. The
agent itself cannot do that to itself: it ends, and its supervisor starts it (I-33).
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from protocol.rental_codes import Component

_LOG: Final = logging.getLogger(__name__)

Run = Callable[[], Coroutine[Any, Any, None]]
"""Begins to run a part."""


class AgentRestartError(Exception):
    """The agent has to end so that it is started anew; nothing failed."""

    retryable = True
    may_have_taken_effect = False

    def __init__(self, *, of_machine: bool) -> None:
        """Say what is to be started anew.

        Args:
            of_machine: whether the computer is, and not the agent alone.
        """
        what = "the computer" if of_machine else "the agent"
        super().__init__(f"{what} is started anew by order of the fleet")
        self.of_machine = of_machine


class Parts:
    """Runs parts and starts them anew when asked."""

    def __init__(self) -> None:
        self._asked: dict[Component, asyncio.Event] = {}
        self._ending: asyncio.Future[AgentRestartError] | None = None

    async def keep(self, component: Component, run: Run) -> None:
        """Run a part until cancelled, anew whenever `restart` asks for it.

        Raises:
            Exception: what the part raises.
        """
        asked = self._asked.setdefault(component, asyncio.Event())
        while True:
            asked.clear()
            work = asyncio.create_task(run())
            wish = asyncio.create_task(asked.wait())
            try:
                await asyncio.wait({work, wish}, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    work.result()
                    return
                _LOG.warning("= %s is started anew", component.name.lower())
            finally:
                for task in (work, wish):
                    task.cancel()
                await asyncio.gather(work, wish, return_exceptions=True)

    async def until_restart(self) -> None:
        """Wait until agent or computer is to be started anew.

        Raises:
            AgentRestartError: it is.
        """
        self._ending = asyncio.get_running_loop().create_future()
        raise await self._ending

    def restart(self, component: Component) -> None:
        """Start a part anew; returns at once."""
        if component is Component.AGENT:
            self._end(of_machine=False)
        elif component in self._asked:
            self._asked[component].set()

    def restart_machine(self) -> None:
        """Have the agent end so that the computer is started anew."""
        self._end(of_machine=True)

    def _end(self, *, of_machine: bool) -> None:
        if self._ending is not None and not self._ending.done():
            self._ending.set_result(AgentRestartError(of_machine=of_machine))
