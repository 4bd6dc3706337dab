"""A customer at an emulated car: hands, a card and a PIN.

A customer touches what a person can touch - door, key, pedals, card, keypad, pump - and
waits for what a person can see. Nothing here knows how the car decides.
"""

from dataclasses import dataclass, field
from typing import Final

from firmware_emulator.devices import EmulatedDevices
from firmware_emulator.display import FilledIn
from firmware_emulator.errors import StepError
from firmware_emulator.reader import Card
from firmware_emulator.street import MM_PER_M, Place
from gateway.core.prompts import Choice
from protocol.codes import EnergyKind

PATIENCE_S: Final = 10.0
"""How long a person waits for a door or a word on the display."""

SLOWEST_M_PER_S: Final = 4.0
"""No drive is slower than this on average; for deadlines only."""


@dataclass(slots=True)
class Customer:
    """Somebody with a card and a PIN, at one car."""

    devices: EmulatedDevices
    """The car."""
    card: Card
    """The customer's card."""
    pin: str = field(repr=False)
    """The customer's PIN, 4 to 8 digits."""
    name: str = "The customer"
    """For telling."""
    language: str = "en"
    """What the car's display speaks to them, two letters."""

    def tap(self) -> None:
        """Hold the card to the windscreen.

        Raises:
            StepError: no reader is alive there.
        """
        if not self.devices.reader.tap(self.card):
            raise StepError("the reader is dead: the car is without power or it failed")

    def type_pin(self, pin: str | None = None) -> None:
        """Type the right PIN, or another.

        Raises:
            StepError: the display is dead.
        """
        if not self.devices.display.type_pin(self.pin if pin is None else pin):
            raise StepError("the display is dead: the car is without power")

    def choose(self, choice: Choice) -> None:
        """Choose in the display's menu.

        Raises:
            StepError: the display is dead.
        """
        if not self.devices.display.choose(choice):
            raise StepError("the display is dead: the car is without power")

    def fill_in(self, form: FilledIn) -> None:
        """Fill in what the display asks for.

        Raises:
            StepError: the display is dead.
        """
        if not self.devices.display.fill_in(form):
            raise StepError("the display is dead: the car is without power")

    def get_in(self) -> None:
        """Open the driver's door, sit down and close it.

        Raises:
            DeedError: the car is locked.
        """
        with self.devices.world.hands() as car:
            car.open_door()
            car.sit()
        with self.devices.world.hands() as car:
            car.close_door()

    def get_out(self) -> None:
        """Get out and close the door.

        Raises:
            DeedError: the car drives.
        """
        with self.devices.world.hands() as car:
            car.open_door(inside=True)
            car.get_out()
        with self.devices.world.hands() as car:
            car.close_door()

    def start_engine(self) -> bool:
        """Turn the key; return whether the engine runs.

        Raises:
            DeedError: nobody sits at the wheel.
        """
        with self.devices.world.hands() as car:
            return car.turn_key(start=True)

    def stop_engine(self) -> None:
        """Turn the key back.

        Raises:
            DeedError: the car drives.
        """
        with self.devices.world.hands() as car:
            car.turn_key(start=False)

    async def drive(self, distance_m: float) -> None:
        """Drive that far through the streets and stop there.

        Raises:
            DeedError: the engine does not run, or a door is open.
            StepError: the car did not arrive.
        """
        with self.devices.world.hands() as car:
            car.drive(distance_m)
        await self._arrive(distance_m)

    async def drive_to(self, east_m: float, north_m: float) -> None:
        """Drive to a place of the city by a shortest way and stop there.

        Raises:
            DeedError: the engine does not run, or there is no street.
            StepError: the car did not arrive.
        """
        with self.devices.world.hands() as car:
            goal = Place(round(east_m * MM_PER_M), round(north_m * MM_PER_M))
            distance_m = car.drive_to(goal)
        await self._arrive(distance_m)

    async def _arrive(self, distance_m: float) -> None:
        await self.devices.witness.until(
            lambda: not self.devices.car.driving,
            timeout_s=PATIENCE_S + distance_m / SLOWEST_M_PER_S,
            missing="the end of the drive",
        )

    async def refuel(self, litres: float) -> None:
        """Fill in so many litres with the fuel card and put it back.

        At an electric car the cable is put in, so many kWh come, and it is taken out.

        Raises:
            DeedError: the engine runs.
            StepError: the pump did not stop.
        """
        with self.devices.world.hands() as car:
            car.take_fuel_card()
            if self._is_electric:
                car.plug_in()
            car.refuel(litres)
        await self.devices.witness.until(
            lambda: not self.devices.car.fuelling,
            timeout_s=PATIENCE_S + litres / self.devices.car.model.fill_l_per_s,
            missing="the end of refuelling",
        )
        with self.devices.world.hands() as car:
            if self._is_electric:
                car.unplug()
            car.return_fuel_card()

    @property
    def _is_electric(self) -> bool:
        return self.devices.car.model.energy_kind is EnergyKind.ELECTRIC

    def wash_windscreen(self, times: int) -> None:
        """Use washer fluid."""
        with self.devices.world.hands() as car:
            car.spray_washer(times)

    def fill_washer(self, litres: float) -> None:
        """Fill the washer tank."""
        with self.devices.world.hands() as car:
            car.fill_washer(litres)

    async def wait(self, duration_ms: int) -> None:
        """Do something else for a while of the world's time."""
        await self.devices.clock.sleep(duration_ms)
