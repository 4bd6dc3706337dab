"""How bad a seed's world is: what is done to messages, links, power and clocks."""

from dataclasses import dataclass
from random import Random
from typing import Self


@dataclass(frozen=True, slots=True)
class Hostility:
    """Shares of messages and mean times between blows; 0 means never."""

    lose: float = 0.0
    """Share of messages that the broker takes and nobody gets (L1)."""
    repeat: float = 0.0
    """Share that comes once more, up to a minute later."""
    hold: float = 0.0
    """Share that others overtake, up to 40 s."""
    spoil: float = 0.0
    """Share of which an altered copy comes too."""
    forge: float = 0.0
    """Share at which a receipt comes that the bridge never signed."""
    misroute: float = 0.0
    """Share of which a copy comes to another car, or back to the sender's topic."""
    retain: float = 0.0
    """Share of which a copy comes later with the retain flag."""
    replay_every_s: float = 0.0
    """Between two replays of a recorded frame of any age."""
    cut_every_s: float = 0.0
    """Between two losses of a car's connection."""
    stall_every_s: float = 0.0
    """Between two half-open times of a car's connection."""
    bridge_cut_every_s: float = 0.0
    """Between two losses of the bridge's connection."""
    power_every_s: float = 0.0
    """Between two power cuts of a car."""
    kill_every_s: float = 0.0
    """Between two deaths of a car's agent."""
    crash_every_s: float = 0.0
    """Between two deaths of the bridge."""
    jump_every_s: float = 0.0
    """Between two jumps of a wall clock, a car's or the bridge's."""
    break_every_s: float = 0.0
    """Between two faults of a car's devices: reader, cable, bolts, sensors."""
    latency_s: float = 0.05
    """Mean time on a link, one way."""

    @classmethod
    def draw(cls, rng: Random) -> Self:
        """Return one of many worlds: one in eight is kind, one in four is hell."""
        mood = rng.random()
        if mood < 0.125:
            return cls(latency_s=rng.choice((0.01, 0.05, 0.3)))
        worst = 3.0 if mood > 0.75 else 1.0

        def share(most: float) -> float:
            return rng.random() * most * worst if rng.random() < 0.6 else 0.0

        def every(least_s: float) -> float:
            wanted = rng.random() < 0.5
            return least_s * rng.uniform(1.0, 4.0) / worst if wanted else 0.0

        return cls(
            lose=share(0.10),
            repeat=share(0.10),
            hold=share(0.10),
            spoil=share(0.05),
            misroute=share(0.05),
            forge=share(0.05),
            retain=share(0.03),
            replay_every_s=every(10.0),
            cut_every_s=every(60.0),
            stall_every_s=every(90.0),
            bridge_cut_every_s=every(90.0),
            power_every_s=every(90.0),
            kill_every_s=every(90.0),
            crash_every_s=every(90.0),
            jump_every_s=every(60.0),
            break_every_s=every(60.0),
            latency_s=rng.choice((0.01, 0.05, 0.3, 1.0)),
        )


KIND = Hostility(latency_s=0.05)
"""The world after the link has healed."""
