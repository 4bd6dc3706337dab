"""What renting costs, as GBFS 3.0 has it (pure).

The bridge knows no bill: it gives away what the operator has written into the settings.
"""

from bridge.gbfs.words import Document, text_in
from bridge.publication import GbfsSettings, PlanSettings, SegmentSettings


def plans_of(settings: GbfsSettings) -> Document:
    """Return the data of ``system_pricing_plans``."""
    return {"plans": [_plan(settings, plan) for plan in settings.plans]}


def prices_of_type(settings: GbfsSettings, energy: str) -> Document:
    """Return what ``vehicle_types`` says of the prices of one kind of car."""
    ids = [plan.id for plan in settings.plans if plan.energy in {None, energy}]
    if not ids:
        return {}
    return {"default_pricing_plan_id": ids[0], "pricing_plan_ids": ids}


def _plan(settings: GbfsSettings, plan: PlanSettings) -> Document:
    found: Document = {
        "plan_id": plan.id,
        "name": text_in(settings, plan.name),
        "description": text_in(settings, plan.description),
        "currency": plan.currency,
        "price": plan.price,
        "is_taxable": plan.is_taxable,
    }
    if plan.per_minute:
        found["per_min_pricing"] = [_segment(one) for one in plan.per_minute]
    if plan.per_km:
        found["per_km_pricing"] = [_segment(one) for one in plan.per_km]
    return found


def _segment(one: SegmentSettings) -> Document:
    found: Document = {"start": one.start, "rate": one.rate, "interval": one.interval}
    if one.end is not None:
        found["end"] = one.end
    return found
