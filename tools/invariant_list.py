"""What must always hold, what must be checked and which faults are met.

One short sentence for each number that tests cite: I, invariants; K, checks of
security; row, faults that are injected. An invariant says by which methods it has to be
shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from types import MappingProxyType
from typing import Final


@unique
class Method(StrEnum):
    """How a test shows an invariant; the letter stands behind its number."""

    PROPERTY = "P"
    """Inputs made by chance, or each of a table of all there are."""
    STATEFUL = "S"
    """Sequences of steps with power cuts between or within them."""
    SIMULATION = "D"
    """Whole cars on a virtual clock, over seeds."""
    MODEL = "M"
    """Every state that can be reached, exhaustively."""
    FAULT = "F"
    """A fault injected into what really runs: processes, files, sockets, lines."""


@dataclass(frozen=True, slots=True)
class Invariant:
    """One thing that must hold."""

    words: str
    """In short."""
    methods: tuple[Method, ...] = ()
    """Each needs a test of its own."""


_P, _S, _D, _M, _F = (
    Method.PROPERTY,
    Method.STATEFUL,
    Method.SIMULATION,
    Method.MODEL,
    Method.FAULT,
)

INVARIANTS: Final[Mapping[str, Invariant]] = MappingProxyType(
    {
        "I-1": Invariant(
            "nothing is locked with engine on or a door open, judged when it acts",
            (_M, _D),
        ),
        "I-2": Invariant("no engine hold while moving or when nobody knows", (_P, _S)),
        "I-3": Invariant(
            "doors open from inside; a silent agent moves no bolt", (_P, _F)
        ),
        "I-4": Invariant("a broken board frame moves nothing", (_P,)),
        "I-5": Invariant("a command is executed at most once", (_S,)),
        "I-6": Invariant("a stale command is never executed", (_D, _F)),
        "I-7": Invariant(
            "a command for another car, fleet, direction or role is not executed",
            (_P,),
        ),
        "I-8": Invariant("an older command never overtakes a newer one", (_P,)),
        "I-9": Invariant(
            "retained, unsigned, unknown, overlong or endless: not executed", (_P,)
        ),
        "I-10": Invariant("each accepted command has one final signed result", (_S,)),
        "I-11": Invariant("no success is told without the car's signed word", (_D,)),
        "I-12": Invariant(
            "no door opens for a card that is unknown, blocked, expired or another's",
            (_P, _S),
        ),
        "I-13": Invariant("a good card opens with every network down", (_F,)),
        "I-14": Invariant("one tap is one decision", (_P,)),
        "I-15": Invariant("a dead reader is told once, opens nothing, is reset", (_F,)),
        "I-16": Invariant("the light is a function of the state", (_S,)),
        "I-17": Invariant(
            "modes exclude one another; no service or update during a rental",
            (_M, _S),
        ),
        "I-18": Invariant("authority without a network is bounded", (_D,)),
        "I-19": Invariant(
            "a renter is never locked out by a failure, a stranger never let in", (_F,)
        ),
        "I-20": Invariant(
            "the journal is bounded and always has room to end a rental", (_S,)
        ),
        "I-21": Invariant(
            "the end of a rental is reported once, and never lost", (_S,)
        ),
        "I-22": Invariant("only a signed receipt frees the ledger", (_P, _S)),
        "I-23": Invariant("the bridge acknowledges after its commit only", (_F,)),
        "I-24": Invariant("verified before anything else is done with it", (_P,)),
        "I-25": Invariant("a car's order is kept from end to end", (_D, _F)),
        "I-26": Invariant("one effect downstream whatever sink fails", (_S,)),
        "I-27": Invariant("fork and gap alarm and are never merged", (_P,)),
        "I-28": Invariant("a power cut at any write leaves a legal state", (_S,)),
        "I-29": Invariant(
            "no wall clock makes anything early, late or wrong", (_F, _D)
        ),
        "I-30": Invariant(
            "a storm of restarts ends in a reduced car, not a flat one", (_F,)
        ),
        "I-31": Invariant("one bad car or consumer does not slow the others", (_F,)),
        "I-32": Invariant("a breaker opens, probes little and closes again", (_P,)),
        "I-33": Invariant("incident tools refuse when unsafe and always answer", (_S,)),
        "I-34": Invariant("a stop at any time loses nothing acknowledged", (_F,)),
    }
)
"""By number."""

CHECKS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "K1": "each car has credentials of its own, none is in the code",
        "K2": "keys do not leave their store and are in no file, log or core",
        "K3": "TLS 1.2 or newer, sealed and forward secret suites only",
        "K4": "both sides show certificates; eight wrong ones are refused",
        "K5": "the server's name and authority are checked, nothing is in clear",
        "K6": "no car reads, writes or listens in another's place",
        "K7": "a certificate's name is bound to car and session",
        "K8": "a withdrawn car is out within a minute and stays out",
        "K9": "certificates renew themselves in time, also after long absence",
        "K10": "a car enrols once, by proof, and only if it is on the list",
        "K11": "each flipped bit, cut or wrong role of a command is refused",
        "K12": "no replay, no stale command, no downgrade",
        "K13": "evidence can be checked by others and after years",
        "K14": "an edited log names the row",
        "K15": "updates: signed, never backwards, safe against power cuts",
        "K16": "secure boot",
        "K17": "no port is open that nobody needs",
        "K18": "serial and service doors give nothing without authority",
        "K19": "every input is checked; nothing unforeseen escapes",
        "K20": "works without a network, within bounds",
        "K21": "comes back cleanly from a loss of power",
        "K22": "reconnects are spread",
        "K23": "a flood of one car does not slow the others",
        "K24": "what concerns security is seen within a minute",
        "K25": "positions, people and numbers are not collected beyond need",
        "K26": "a rental can be forgotten and the chain still holds",
        "K27": "parts list and pinned hashes",
        "K28": "operators have roles, caps and second approvals",
    }
)
"""By number."""

FAULTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "row 1": "car: power cut at any write",
        "row 2": "car: power cut between act and record",
        "row 3": "car: disk full",
        "row 4": "car: fsync fails",
        "row 5": "car: database damaged",
        "row 6": "car: agent hangs",
        "row 7": "car: agent crashes again and again",
        "row 8": "car: board silent, garbled, slow or restarting",
        "row 9": "car: board reports what cannot be",
        "row 10": "car: reader unplugged, hung, flooded, wrong cards",
        "row 11": "car: low 12 V, eight hours of sleep",
        "row 12": "car: memory or files leak",
        "row 13": "link: gone for a second, an hour, three days",
        "row 14": "link: half open",
        "row 15": "link: slow, thin, lossy",
        "row 16": "link: reset every few seconds, cut within a frame",
        "row 17": "link: corrupted, hostile",
        "row 18": "link: other address, name service fails or lies",
        "row 19": "broker: killed with messages waiting",
        "row 20": "broker: frozen for a minute",
        "row 21": "broker: its memory wiped",
        "row 22": "broker: 5,000 cars come back at once",
        "row 23": "broker: a rogue takes identities, subscribes to all",
        "row 24": "broker: out of connections or memory",
        "row 25": "bridge: killed between any two steps",
        "row 26": "bridge: database down, slow, read-only, locked",
        "row 27": "bridge: poison, floods, backlog",
        "row 28": "bridge: from one to four and back",
        "row 29": "bridge: two believe to own one car",
        "row 30": "consumer: errors, hangs, drips, expired TLS",
        "row 31": "consumer: Kafka fails in its ways",
        "row 32": "consumer: JetStream killed, frozen, full",
        "row 33": "consumer: orders twice, contradicts itself, floods",
        "row 34": "PKI: expired, early, revoked, renewed, authority down",
        "row 35": "PKI: revocation list expired, broken, gone; key stolen",
        "row 36": "clock: ten years off, jumps, dead",
        "row 37": "operations: bad settings, half a migration, restored backup",
    }
)
"""By number."""
