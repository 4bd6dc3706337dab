"""Online payment through the whole gateway: link, ledger, board and display (F8)."""

from gateway.core.payment import payment_id_of
from gateway.core.prompts import Choice, PromptKey
from protocol.codes import Bits, Code, ConfigKind, RentalMode
from protocol.command import ANY_VERSION
from protocol.event import FuelPaidByCard
from protocol.rental_codes import PaymentOutcome
from protocol.rental_command import PaymentDecision
from protocol.rental_event import PaymentDecided, PaymentRequested
from protocol.station_list import Station, build_station_list
from tests.gateway.test_facts import configure
from tests.gateway.world import PIN, World

STATION = Station(7, "Elm Street", 484_000_000, 99_900_000, pays_online=True)


async def come_to_the_pump(world: World) -> bytes:
    """Rent, stop at the station, choose to pay online; returns the rental's id."""
    body = build_station_list((STATION,))
    await configure(world, body, kind=ConfigKind.STATIONS)
    rental_id = await world.begin_rental()
    world.display.type_pin(PIN)
    await world.advance(1.0)
    world.board.change(engine_running=True, ignition_on=True, speed_dkmh=300)
    await world.advance(30.0)
    world.board.change(engine_running=False, ignition_on=False, speed_dkmh=0)
    await world.advance(1.0)
    assert world.display.prompt.key is PromptKey.OFFER_REFUEL
    for choice in (Choice.REFUEL, Choice.PAY_ONLINE):
        world.display.choose(choice)
        await world.advance(1.0)
    return rental_id


async def ask_fleet(world: World) -> bytes:
    """Rent, stop at the station, and ask the fleet to pay; returns the rental's id."""
    rental_id = await come_to_the_pump(world)
    world.display.type_pump(4)
    await world.advance(1.0)
    return rental_id


def paid(rental_id: bytes) -> PaymentDecision:
    return PaymentDecision(
        rental_id,
        ANY_VERSION,
        payment_id_of(rental_id, 1),
        PaymentOutcome.PAID,
        b"EUR",
        6_420,
    )


async def test_a_fleet_pays_and_the_car_may_drive_off() -> None:
    """F8, C20, C21: the request tells its place, the permission releases the engine."""
    async with World() as world:
        rental_id = await ask_fleet(world)
        [asked] = [e for e in world.fleet.events() if isinstance(e, PaymentRequested)]
        held = not world.board.car.engine_released

        order = world.fleet.send(paid(rental_id))
        await world.advance(1.0)

        assert (asked.station_id, asked.pump) == (7, 4)
        assert any(asked.place_commitment)
        assert held
        assert world.fleet.codes_of(order) == [Code.OK]
        assert world.board.car.engine_released


async def test_after_a_reconnect_a_fresh_permission_counts() -> None:
    """H3: the hello's snapshot shows a visit with the engine held."""
    async with World() as world:
        rental_id = await ask_fleet(world)
        world.air.lose()
        await world.advance(5.0)

        snapshot = world.fleet.hellos[-1].snapshot
        assert snapshot.mode is RentalMode.REFUELLING
        assert Bits.ENGINE_RELEASED not in snapshot.bits
        world.fleet.send(paid(rental_id))
        await world.advance(1.0)

        assert world.board.car.engine_released
        assert PaymentDecided in world.events()


async def test_without_the_fleet_the_fuel_card_pays() -> None:
    """C22, H2, H6: after a minute its PIN is shown, and the driver's word is kept."""
    async with World() as world:
        await ask_fleet(world)
        world.air.cut()
        await world.advance(70.0)
        shown, secret = world.display.prompt.key, world.display.secret

        world.display.choose(Choice.PAID_BY_CARD)
        await world.advance(1.0)

        assert (shown, secret) == (PromptKey.PAY_BY_CARD, "0815")
        assert world.board.car.engine_released
        assert world.state.rental is not None
        written = [type(each) for step in world.steps for each in step.decision.entries]
        assert FuelPaidByCard in written


async def test_a_car_that_is_offline_does_not_offer_to_pay_online() -> None:
    """C22, H2."""
    async with World() as world:
        await configure(world, build_station_list((STATION,)), kind=ConfigKind.STATIONS)
        connected = world.state.online
        world.air.cut()
        await world.advance(5.0)

        assert connected
        assert not world.state.online


async def test_a_power_cut_at_the_pump_keeps_payment_and_hold() -> None:
    """I-28, H3."""
    async with World() as world:
        rental_id = await ask_fleet(world)

        await world.power_cut()
        await world.advance(2.0)
        held = not world.board.car.engine_released
        world.fleet.send(paid(rental_id))
        await world.advance(1.0)

        assert held
        assert world.board.car.engine_released
