"""Boarding: known damage, cleanliness, and what the customer finds (C9, C10).

After the first opening the display shows what the fleet knows of the car's damage, then
asks how clean it is, and then for the PIN. Nobody is held up: each question can be
passed by, and the right PIN or a started engine ends the inspection too, since who
drives off has taken the car as it was shown. Damage can be reported at any time while
the car stands.
"""

from typing import Final

from gateway.core.dialogue import is_asked
from gateway.core.events import DamageEntered, RatingEntered
from gateway.core.prompts import Form, Prompt, PromptKey
from gateway.core.state import Inspection
from gateway.core.turn import Turn
from gateway.core.typed_words import can_be_sent, letters_that_fit
from protocol.rental_event import (
    NO_PHOTO,
    NOTE_LIMIT,
    STARS_LIMIT,
    CleanlinessRated,
    DamageReported,
    InspectionDone,
)

REPORTS_LIMIT: Final = 20
"""Damages that one rental reports at the display, so that nobody fills the disk (I-20);
who finds more calls."""


def go_on(turn: Turn) -> None:
    """Pass to the next question of the inspection."""
    if turn.rental.inspection is Inspection.DAMAGE:
        turn.change_rental(inspection=Inspection.CLEANLINESS)
    else:
        finish_inspection(turn)


def finish_inspection(turn: Turn) -> None:
    """End the inspection, and tell it once."""
    if turn.rental.inspection is not Inspection.DONE:
        turn.change_rental(inspection=Inspection.DONE)
        turn.record(InspectionDone(turn.rental_id))


def rate(turn: Turn, event: RatingEntered) -> None:
    """Take the rating, if it is asked for; it ends the inspection."""
    if not is_asked(turn.state, Form.RATING):
        return
    if not all(1 <= stars <= STARS_LIMIT for stars in (event.inside, event.outside)):
        turn.notify(Prompt(PromptKey.RATING_MALFORMED, (STARS_LIMIT,)))
        return
    turn.record(CleanlinessRated(turn.rental_id, event.inside, event.outside))
    finish_inspection(turn)


def begin_report(turn: Turn) -> None:
    """Show the form of a damage."""
    if turn.rental.reports >= REPORTS_LIMIT:
        turn.notify(Prompt(PromptKey.REPORTS_FULL))
    else:
        turn.change_rental(reporting=True)


def leave_report(turn: Turn) -> None:
    """Take the form of a damage away."""
    turn.change_rental(reporting=False)


def report_damage(turn: Turn, event: DamageEntered) -> None:
    """Take a damage, if its form stands."""
    if not is_asked(turn.state, Form.DAMAGE):
        return
    if not _is_well_formed(event):
        most = letters_that_fit(event.note, NOTE_LIMIT)
        turn.notify(Prompt(PromptKey.DAMAGE_MALFORMED, (most,)))
        return
    turn.record(
        DamageReported(
            turn.rental_id, event.place, event.kind, event.photo_hash, event.note
        )
    )
    turn.change_rental(reporting=False, reports=turn.rental.reports + 1)
    turn.notify(Prompt(PromptKey.DAMAGE_NOTED))


def _is_well_formed(event: DamageEntered) -> bool:
    is_hash = len(event.photo_hash) == len(NO_PHOTO)
    return can_be_sent(event.note, NOTE_LIMIT) and is_hash
