"""The car's state as bytes: JSON by its types, with a version in front.

JSON because a person with a car on the bench must be able to read it; by types because
a state that is almost right is the worst kind. What is read is written again and must
give the same bytes, so an unknown, missing or doubled field never passes.

An older format is read too. What a later one added has a default, which a car of before
would have had; everything else must be as it was written, field by field.
"""

from typing import Final

import msgspec

from gateway.core.state import State
from gateway.storage.errors import StoreDamagedError, StoreForeignError

STATE_FORMAT: Final = 2
"""Revision of the stored state; a release that changes `State` raises it.

2: dialogue, condition, grants, service, payment and handover were added.
"""

_OLDER: Final = frozenset({1})
"""Formats of which the present one differs by fields with defaults only."""


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    state: msgspec.Raw


_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)
_STATE: Final = msgspec.json.Decoder(State)
# Sets have no order of their own, and the bytes must not depend on the process.
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


def encode_state(state: State) -> bytes:
    """Return a state's bytes; equal states give equal bytes."""
    return _ENCODER.encode(_Envelope(STATE_FORMAT, msgspec.Raw(_ENCODER.encode(state))))


def decode_state(data: bytes) -> State:
    """Read a state.

    Raises:
        StoreDamagedError: not the bytes of any state. Nothing that was read is in the
            message: a state holds card digests.
        StoreForeignError: the state has another format.
    """
    try:
        envelope = _ENVELOPE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise StoreDamagedError("the stored state is not readable JSON") from None
    if envelope.format not in {STATE_FORMAT, *_OLDER}:
        raise StoreForeignError(
            f"the stored state has format {envelope.format}, this gateway reads "
            f"{STATE_FORMAT}: install the version that wrote it"
        )
    try:
        state = _STATE.decode(envelope.state)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise StoreDamagedError(
            f"the stored state of format {envelope.format} has fields of other types"
        ) from None
    if not _is_written(state, data, envelope):
        raise StoreDamagedError(
            f"the stored state of format {envelope.format} is not what a gateway writes"
        )
    return state


def _is_written(state: State, data: bytes, envelope: _Envelope) -> bool:
    if envelope.format == STATE_FORMAT:
        return encode_state(state) == data
    old = msgspec.json.decode(envelope.state)
    new = msgspec.json.decode(_ENCODER.encode(state))
    again = msgspec.Raw(msgspec.json.encode(old))
    canonical = _ENCODER.encode(_Envelope(envelope.format, again)) == data
    return canonical and _extends(new, old)


def _extends(new: object, old: object) -> bool:
    """Return whether the new value has all of the old, and else only more fields."""
    if isinstance(new, dict) and isinstance(old, dict):
        return all(key in new and _extends(new[key], old[key]) for key in old)
    if isinstance(new, list) and isinstance(old, list):
        pairs = zip(new, old, strict=False)
        return len(new) == len(old) and all(_extends(*pair) for pair in pairs)
    return new == old
