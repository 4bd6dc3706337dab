"""How much a disk can still record, as far as rentals are concerned (I-20).

What has begun must be recorded to its end: the less room there is, the less may begin.
The shell measures before whatever could begin a rental, and tells the mind with
`gateway.core.events.RoomChanged`; the mind decides (ADR 26).
"""

from enum import Enum, unique


@unique
class Room(Enum):
    """What the disk can record; the words say it to people."""

    ANOTHER = "one more rental"
    """A rental may begin, by whatever way."""
    PROMISED = "what is promised, but no new rental"
    """No reservation is taken, and nothing begins by a grant or a handover. One of
    before is kept, since its rental can be recorded whole."""
    RUNNING = "the rental that runs, and nothing else"
    """Not even a reservation can be opened any more; what runs goes on and ends."""

    @property
    def takes_rental(self) -> bool:
        """Whether something new may be promised or begun."""
        return self is Room.ANOTHER

    @property
    def keeps_promise(self) -> bool:
        """Whether a reservation of before may become a rental."""
        return self is not Room.RUNNING
