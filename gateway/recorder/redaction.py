"""What the recorder leaves out, without changing what the mind makes of it.

A record must not give away a PIN, a card or where somebody drove (H6, K25), and must
still lead the mind to the same decisions. So secrets are replaced, not struck out:

* A card gets another UID, of the same length, under a key that lies in memory only and
  dies with the process. Digests of cards are replaced under the same key, because the
  digest of a short UID is undone by trying all UIDs. When a card is held to the reader
  whose digest was told before, the record says which of the two replacements belong
  together (`introduce`); nothing leads back to the card.
* A PIN becomes four zeros, or one letter if it could be no PIN. Whether it was right is
  an event of its own.
* Sealed secrets, names, notes and destinations become a mark: the mind asks only
  whether there are any.
* A place is made coarse. Where the decision depends on the place itself, the recorder
  notices and keeps it (`gateway.recorder.tape`).
"""

import hashlib
from dataclasses import replace
from typing import Final

from gateway.core.destination import is_destination
from gateway.core.events import (
    CardPresented,
    CommandReceived,
    DamageEntered,
    DestinationEntered,
    Event,
    PinEntered,
    PositionFixed,
)
from gateway.core.prompts import Prompt
from gateway.core.reading import Position
from gateway.core.state import (
    Handover,
    Rental,
    Reservation,
    SearchRequest,
    State,
    Tap,
    WalkUp,
)
from protocol.command import Command, Reserve, ShowMessage
from protocol.identity import card_digest
from protocol.rental_command import Grant, HandoverOffer, HandoverRequest
from protocol.sealing import PIN_LENGTHS

COARSE_E7: Final = 100_000
"""Degrees times 10^7: a place is known to about a kilometre."""

EXACT_E7: Final = 1
"""A place as it is."""

SEEN_LIMIT: Final = 256
"""Cards whose replacement is remembered; of an older one it is made again."""

_ALIAS_LIMIT: Final = 64
"""Bytes of the longest replacement; no card has so long a UID."""

_MARK: Final = "-"

Introduction = tuple[bytes, bytes]
"""A rental's id, and the replacement that its card's digest had until now."""


class Redaction:
    """Replaces what must not be kept.

    Args:
        key: 32 random bytes, forgotten with the process.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._seen: dict[bytes, bytes] = {}

    # -- cards ------------------------------------------------------------------------

    def alias(self, uid: bytes) -> bytes:
        """Return the UID that stands for this one, and remember it."""
        if uid not in self._seen:
            size = min(len(uid), _ALIAS_LIMIT)
            self._seen[uid] = self._keyed(uid, size) if size else b""
            if len(self._seen) > SEEN_LIMIT:
                del self._seen[next(iter(self._seen))]
        return self._seen[uid]

    def introductions(self, event: Event, state: State) -> tuple[Introduction, ...]:
        """Return whose digests a card that was never here before turns out to be.

        Ask before `event` is called for the same event.
        """
        if not isinstance(event, CardPresented) or event.uid in self._seen:
            return ()
        return tuple(
            (rental_id, self._keyed(digest, len(digest)))
            for rental_id, digest in known_cards(state)
            if card_digest(rental_id, event.uid) == digest
        )

    def _card(self, rental_id: bytes, digest: bytes) -> bytes:
        for uid, alias in self._seen.items():
            if card_digest(rental_id, uid) == digest:
                return card_digest(rental_id, alias)
        return self._keyed(digest, len(digest))

    def _cards(self, rental_id: bytes, digests: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(self._card(rental_id, digest) for digest in digests)

    def _keyed(self, secret: bytes, size: int) -> bytes:
        return hashlib.blake2b(secret, key=self._key, digest_size=size).digest()

    # -- events -----------------------------------------------------------------------

    def event(self, event: Event, *, grid_e7: int) -> Event:
        """Return the event as it may be kept."""
        match event:
            case CardPresented(uid=uid):
                return CardPresented(self.alias(uid))
            case PinEntered(pin=pin):
                return PinEntered(_blind_pin(pin))
            case DamageEntered() | DestinationEntered():
                return _wordless(event)
            case PositionFixed(position=position):
                return PositionFixed(_coarse(position, grid_e7))
            case CommandReceived(command=command):
                return replace(event, command=self._command(command, grid_e7))
            case _:
                return event

    def _command(self, command: Command, grid_e7: int) -> Command:
        match command:
            case Reserve(rental_id=rental_id, cards=cards, sealed=sealed):
                return replace(
                    command, cards=self._cards(rental_id, cards), sealed=_blind(sealed)
                )
            case Grant(rental_id=rental_id, card=card, sealed=sealed):
                return replace(
                    command, card=self._card(rental_id, card), sealed=_blind(sealed)
                )
            case HandoverOffer(offer_id=offer_id, cards=cards, sealed=sealed):
                return replace(
                    command,
                    cards=self._cards(offer_id, cards),
                    sealed=_blind(sealed),
                    latitude_e7=_snap(command.latitude_e7, grid_e7),
                    longitude_e7=_snap(command.longitude_e7, grid_e7),
                )
            case ShowMessage(arguments=arguments):
                return replace(command, arguments=tuple(map(_nameless, arguments)))
            case HandoverRequest(name=name):
                return replace(
                    command,
                    name=_nameless(name),
                    latitude_e7=_snap(command.latitude_e7, grid_e7),
                    longitude_e7=_snap(command.longitude_e7, grid_e7),
                )
            case _:
                return command

    # -- states -----------------------------------------------------------------------

    def state(self, state: State, *, grid_e7: int) -> State:
        """Return the state as it may be kept."""
        tap, walk_up, pending = state.tap, state.walk_up, state.pending
        if pending is not None:
            pending = replace(pending, authority=bytes(len(pending.authority)))
        return replace(
            state,
            reservation=self._reservation(state.reservation),
            rental=self._rental(state.rental, grid_e7),
            grants=tuple(
                replace(
                    grant,
                    card=self._card(grant.rental_id, grant.card),
                    sealed=_blind(grant.sealed),
                )
                for grant in state.grants
            ),
            tap=None if tap is None else Tap(self.alias(tap.uid), tap.at_ms),
            walk_up=(
                None
                if walk_up is None
                else WalkUp(self.alias(walk_up.uid), walk_up.until_ms)
            ),
            pending=pending,
            position=(
                None if state.position is None else _coarse(state.position, grid_e7)
            ),
            notice=_prompt(state.notice),
            shown_prompt=_prompt(state.shown_prompt),
        )

    def _reservation(self, held: Reservation | None) -> Reservation | None:
        if held is None:
            return None
        cards = self._cards(held.rental_id, held.cards)
        return replace(held, cards=cards, sealed=_blind(held.sealed))

    def _rental(self, rental: Rental | None, grid_e7: int) -> Rental | None:
        if rental is None:
            return None
        return replace(
            rental,
            reservation=self._reservation(rental.reservation),  # type: ignore[arg-type] # a rental has one
            handover=self._handover(rental.handover, grid_e7),
            search=_search(rental.search),
        )

    def _handover(self, handover: Handover | None, grid_e7: int) -> Handover | None:
        if handover is None:
            return None
        return replace(
            handover,
            cards=self._cards(handover.offer_id, handover.cards),
            sealed=_blind(handover.sealed),
            authority=bytes(len(handover.authority)),
            latitude_e7=_snap(handover.latitude_e7, grid_e7),
            longitude_e7=_snap(handover.longitude_e7, grid_e7),
        )


def known_cards(state: State) -> tuple[Introduction, ...]:
    """Return every digest of a card in a state, with the id that it is bound to."""
    found: list[Introduction] = []
    rental = state.rental
    for held in (state.reservation, None if rental is None else rental.reservation):
        if held is not None:
            found += [(held.rental_id, card) for card in held.cards]
    if rental is not None and rental.handover is not None:
        handover = rental.handover
        found += [(handover.offer_id, card) for card in handover.cards]
    found += [(grant.rental_id, grant.card) for grant in state.grants]
    return tuple(found)


def introduce(
    state: State, event: Event, introductions: tuple[Introduction, ...]
) -> State:
    """Return a kept state in which a kept card is known by what it was told as.

    Args:
        state: as kept.
        event: as kept; the card that is presented.
        introductions: what `Redaction.introductions` said of it.
    """
    if not isinstance(event, CardPresented):
        return state
    names = {
        token: card_digest(rental_id, event.uid) for rental_id, token in introductions
    }

    def named(cards: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return tuple(names.get(card, card) for card in cards)

    reservation, rental = state.reservation, state.rental
    if reservation is not None:
        reservation = replace(reservation, cards=named(reservation.cards))
    if rental is not None:
        held, handover = rental.reservation, rental.handover
        if handover is not None:
            handover = replace(handover, cards=named(handover.cards))
        rental = replace(
            rental,
            reservation=replace(held, cards=named(held.cards)),
            handover=handover,
        )
    grants = tuple(
        replace(grant, card=names.get(grant.card, grant.card)) for grant in state.grants
    )
    return replace(state, reservation=reservation, rental=rental, grants=grants)


def _blind_pin(pin: str) -> str:
    fits = len(pin) in PIN_LENGTHS and pin.isascii() and pin.isdigit()
    return "0" * PIN_LENGTHS.start if fits else "x"


def _blind(sealed: bytes) -> bytes:
    return bytes(1) if sealed else b""


def _nameless(name: str) -> str:
    return _MARK if name else ""


def _wordless(event: DamageEntered | DestinationEntered) -> Event:
    """Return what was typed without its words; what was refused is refused again."""
    if isinstance(event, DamageEntered):
        return replace(event, note="")
    return DestinationEntered(_MARK if is_destination(event.destination) else "")


def _search(search: SearchRequest | None) -> SearchRequest | None:
    return None if search is None else replace(search, name=_nameless(search.name))


def _prompt(prompt: Prompt) -> Prompt:
    words = tuple(_nameless(word) for word in prompt.words)
    return replace(prompt, sealed=_blind(prompt.sealed), words=words)


def _coarse(position: Position, grid_e7: int) -> Position:
    return replace(
        position,
        latitude_e7=_snap(position.latitude_e7, grid_e7),
        longitude_e7=_snap(position.longitude_e7, grid_e7),
    )


def _snap(degrees_e7: int, grid_e7: int) -> int:
    return degrees_e7 // grid_e7 * grid_e7
