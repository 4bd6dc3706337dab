"""The car's state as bytes: JSON by its types, with a version in front.

JSON because a person with a car on the bench must be able to read it; by types because
a state that is almost right is the worst kind. What is read is written again and must
give the same bytes, so an unknown, missing or doubled field never passes.
"""

from typing import Final

import msgspec

from gateway.core.state import State
from gateway.storage.errors import StoreDamagedError, StoreForeignError

STATE_FORMAT: Final = 1
"""Revision of the stored state; a change of `State` raises it and adds a migration."""


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
    if envelope.format != STATE_FORMAT:
        raise StoreForeignError(
            f"the stored state has format {envelope.format}, this gateway reads "
            f"{STATE_FORMAT}: install the version that wrote it"
        )
    try:
        state = _STATE.decode(envelope.state)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise StoreDamagedError(
            f"the stored state of format {STATE_FORMAT} has fields of other types"
        ) from None
    if encode_state(state) != data:
        raise StoreDamagedError(
            f"the stored state of format {STATE_FORMAT} is not what a gateway writes"
        )
    return state
