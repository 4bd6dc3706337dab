"""Making records by the ten thousand a second, of classes that are frozen.

A frozen dataclass sets each of its fields through `object.__setattr__`, which for a
header of thirteen takes longer than reading it. So a record is made as one of a twin
class, which has the same slots and is not frozen, and then becomes one of its own
class: the same record, as frozen as any other.
"""

from collections.abc import Callable
from dataclasses import fields, make_dataclass
from typing import Any, TypeVar

T = TypeVar("T")


def drafted(record: type[T]) -> Callable[..., T]:
    """Return what makes records of a class, from the values of its fields in order.

    Args:
        record: a frozen dataclass with slots, without `__post_init__`: that would not
            be asked.

    Raises:
        TypeError: it has one.
    """
    if hasattr(record, "__post_init__"):
        raise TypeError(f"{record.__name__} looks at its values when it is made")

    def freeze(draft: Any) -> None:  # noqa: ANN401 - becomes a record
        draft.__class__ = record

    names = [field.name for field in fields(record)]  # type: ignore[arg-type] # a dataclass
    twin: Any = make_dataclass(
        f"{record.__name__}Draft",
        names,
        namespace={"__post_init__": freeze},
        slots=True,
        eq=False,
    )
    making: Callable[..., T] = twin
    return making
