"""One turn of the mind: collects what one event causes, and closes it consistently.

`Turn` is the only mutable thing of the core and lives for one call of
`gateway.core.vehicle.handle`. Results are closed last, so that each carries the state
that it leads to.
"""

from dataclasses import dataclass, replace
from typing import Final

from gateway.core.actions import Action, SendRefusal, ShowLight, ShowPrompt
from gateway.core.appearance import light_of, snapshot_of
from gateway.core.dialogue import language_of, prompt_of
from gateway.core.events import CommandReceived
from gateway.core.moment import Moment
from gateway.core.prompts import NO_PROMPT, Prompt
from gateway.core.state import Refuelling, Rental, Request, State
from gateway.core.table import Trigger, next_mode
from protocol.codes import Code, Executed
from protocol.event import EventBody
from protocol.result import Result, retry_of

NOTICE_MS: Final = 5_000
"""How long a passing word stands: long enough to read a line, assumed."""

REFUSAL_MS: Final = 2_000
"""How long the indicator blinks red on refusal (H15)."""

VERSION_LIMIT: Final = 0xFFFF_FFFF
"""The version is a u32, and its last value means "any version" on the wire."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What one event causes."""

    state: State
    """The new state; commit it before acting if its essence changed."""
    entries: tuple[EventBody | Result, ...]
    """For the ledger, in order."""
    actions: tuple[Action, ...]
    """To be performed after the commit, in order."""
    accepted: CommandReceived | None
    """A command to journal in the same transaction."""
    illegal: str | None
    """Why an event changed nothing although it should not have occurred."""
    triggers: tuple[Trigger, ...] = ()
    """By which cells of the table the mode changed, in order."""


class Turn:
    """Collects state, entries and actions while one event is handled."""

    def __init__(self, state: State, now: Moment) -> None:
        """Begin with the state before."""
        self.state = state
        self.now = now
        self.accepted: CommandReceived | None = None
        self._events: list[EventBody] = []
        self._answers: list[tuple[Request, Code, Executed]] = []
        self._actions: list[Action] = []
        self._refusals: list[tuple[Request, Code, Executed]] = []
        self._triggers: list[Trigger] = []

    @property
    def rental(self) -> Rental:
        """The running rental; ask only in a mode that has one."""
        rental = self.state.rental
        if rental is None:
            raise LookupError(f"mode {self.state.mode.name} without a rental")
        return rental

    @property
    def visit(self) -> Refuelling:
        """The visit to a station; ask only in a mode that has one."""
        visit = self.rental.refuelling
        if visit is None:
            raise LookupError(f"mode {self.state.mode.name} without a visit")
        return visit

    @property
    def rental_id(self) -> bytes:
        """The running rental's id; ask only in a mode that has one."""
        return self.rental.reservation.rental_id

    def change(self, **changes: object) -> None:
        """Replace fields of the state."""
        self.state = replace(self.state, **changes)  # type: ignore[arg-type] # by name

    def change_rental(self, **changes: object) -> None:
        """Replace fields of the running rental."""
        self.change(rental=replace(self.rental, **changes))  # type: ignore[arg-type]

    def change_reservation(self, **changes: object) -> None:
        """Replace fields of what was reserved, also when it has become a rental."""
        rental, reservation = self.state.rental, self.state.reservation
        held = reservation if rental is None else rental.reservation
        if held is None:
            raise LookupError(f"mode {self.state.mode.name} without a reservation")
        changed = replace(held, **changes)  # type: ignore[arg-type] # by name
        if rental is None:
            self.change(reservation=changed)
        else:
            self.change_rental(reservation=changed)

    def transit(self, trigger: Trigger) -> None:
        """Change the mode by the table.

        Raises:
            IllegalTransitionError: the table has no such cell; nothing changed.
        """
        mode = next_mode(self.state.mode, trigger)
        self._triggers.append(trigger)
        self.change(mode=mode, version=(self.state.version + 1) % VERSION_LIMIT)

    def record(self, *events: EventBody) -> None:
        """Write events to the ledger."""
        self._events.extend(events)

    def act(self, action: Action) -> None:
        """Have something done after the commit."""
        self._actions.append(action)

    def answer(self, request: Request | None, code: Code, executed: Executed) -> None:
        """Close an accepted command with a result in the ledger; None asks nothing."""
        if request is not None:
            self._answers.append((request, code, executed))

    def refuse(self, request: Request, code: Code, executed: Executed) -> None:
        """Answer a command that is not accepted; enters no ledger."""
        self._refusals.append((request, code, executed))

    def notify(self, prompt: Prompt, duration_ms: int = NOTICE_MS) -> None:
        """Show a passing word before the screen, in the language of the customer."""
        self.change(
            notice=replace(prompt, language=language_of(self.state)),
            notice_until_ms=self.now.boot_ms + duration_ms,
        )

    def hush(self) -> None:
        """Take a passing word away, since something newer is to be said."""
        self.change(notice=NO_PROMPT, notice_until_ms=None)

    def blink_refusal(self) -> None:
        """Let the indicator blink red."""
        self.change(refusing_until_ms=self.now.boot_ms + REFUSAL_MS)

    def close(self, illegal: str | None = None) -> Decision:
        """Settle indicator and display, and return the decision."""
        light, blinking = light_of(self.state)
        if (light, blinking) != (self.state.shown_light, self.state.shown_blinking):
            self.act(ShowLight(light, blinking))
        prompt = prompt_of(self.state)
        if prompt != self.state.shown_prompt:
            self.act(ShowPrompt(prompt))
        self.change(
            last=self.now,
            shown_light=light,
            shown_blinking=blinking,
            shown_prompt=prompt,
        )
        for request, code, executed in self._refusals:
            self.act(SendRefusal(self._result(request, code, executed)))
        results = [self._result(*answer) for answer in self._answers]
        return Decision(
            state=self.state,
            entries=(*self._events, *results),
            actions=tuple(self._actions),
            accepted=self.accepted,
            illegal=illegal,
            triggers=tuple(self._triggers),
        )

    def _result(self, request: Request, code: Code, executed: Executed) -> Result:
        return result_of(self.state, request, code, executed)


def result_of(state: State, request: Request, code: Code, executed: Executed) -> Result:
    """Return the answer to a command, with the state that it leads to."""
    return Result(
        request_id=request.msg_id,
        request_hash=request.request_hash,
        code=code,
        executed=executed,
        retry=retry_of(code),
        snapshot=snapshot_of(state),
    )
