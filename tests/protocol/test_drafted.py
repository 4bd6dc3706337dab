"""Records that are made quickly are the records that are made otherwise."""

from dataclasses import FrozenInstanceError, dataclass

import pytest

from protocol.packed.drafted import drafted
from protocol.receipt import Gap


def test_a_drafted_record_is_equal_to_one_made_by_its_class_and_as_frozen() -> None:
    """C21: what the bridge reads at speed is what everybody else reads."""
    made = drafted(Gap)(3, 7)

    assert type(made) is Gap
    assert made == Gap(3, 7)
    assert repr(made) == repr(Gap(3, 7))
    with pytest.raises(FrozenInstanceError):
        made.first = 4  # type: ignore[misc] # what must fail


def test_a_class_that_looks_at_its_values_is_not_drafted_around() -> None:
    """A check of values that nobody runs would let anything through."""

    @dataclass(frozen=True, slots=True)
    class Small:
        value: int

        def __post_init__(self) -> None:
            raise ValueError(self.value)

    with pytest.raises(TypeError, match="Small looks at its values"):
        drafted(Small)
