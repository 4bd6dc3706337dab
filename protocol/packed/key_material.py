"""`protocol.key_material` again, as a field of `struct`."""

from typing import Final

from protocol.key_material import MATERIAL_SIZE, read_material, write_material
from protocol.packed.record import Field

KEY_MATERIAL: Final = Field(f"{MATERIAL_SIZE}s", read_material, write_material)
