"""Seeds one after another, in one process or in several."""

import gc
import logging
from dataclasses import dataclass

from tests.simulation.seed_run import Outcome, made_fleet, run_seed


@dataclass(frozen=True, slots=True)
class Part:
    """Some seeds."""

    first: int
    count: int
    life: float = 1.0


def run_part(part: Part) -> list[Outcome]:
    """Run seeds with one fleet; keys differ from fleet to fleet, outcomes do not."""
    logging.disable(logging.CRITICAL)
    outcomes = []
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        with made_fleet() as fleet:
            # What stands now stays: a collection looks only at what a seed has made.
            gc.collect()
            gc.freeze()
            for seed in range(part.first, part.first + part.count):
                outcomes.append(run_seed(seed, fleet, life=part.life))
                gc.collect()
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
    return outcomes
