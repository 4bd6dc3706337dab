"""What the wire has and this car does not carry out is refused whole (FF-CMD-03)."""

from dataclasses import replace
from typing import Final

import pytest

from gateway.core.events import CommandReceived
from gateway.core.greeting import CAPABILITIES
from gateway.core.repertoire import REPERTOIRE
from protocol.codes import Code, Executed, Opcode
from protocol.command import ANY_VERSION, COMMANDS, Command
from protocol.content import parse_content
from protocol.frame import parse_frame
from tests.gateway.core.desk import FrontDesk, command_frame
from tests.gateway.core.scene import RENTAL, Scene
from tests.protocol.vector_file import ACCEPTED, frame_of

NOT_CARRIED_OUT: Final = [
    Opcode.UNLOCK_AND_ENABLE,
    Opcode.LOCK_AND_DISABLE,
]
"""Whoever teaches the car one of them takes it out here."""


def _command(opcode: Opcode) -> Command:
    name = next(
        name
        for name, vector in ACCEPTED.items()
        if vector["fields"]["header"]["frame_class"] == "CMD"
        and vector["fields"]["header"]["type"] == opcode
    )
    body = parse_content(parse_frame(frame_of(name))).body
    assert type(body) is COMMANDS[opcode].layout.record
    return body  # type: ignore[return-value] # as just asserted


def test_a_car_advertises_what_it_carries_out_and_nothing_else() -> None:
    assert set(REPERTOIRE) == set(Opcode) - set(NOT_CARRIED_OUT)
    assert [capability.opcode for capability in CAPABILITIES] == list(REPERTOIRE)


@pytest.mark.parametrize("opcode", NOT_CARRIED_OUT, ids=str)
def test_what_a_car_does_not_carry_out_passes_the_pipeline(opcode: Opcode) -> None:
    # FF-CMD-03: it is known, so signature, session and life of it are judged first.
    verdict = FrontDesk().judge(command_frame(_command(opcode)))

    assert isinstance(verdict, CommandReceived)


@pytest.mark.parametrize("opcode", NOT_CARRIED_OUT, ids=str)
def test_it_is_refused_whole_as_unknown(opcode: Opcode) -> None:
    scene = Scene()
    scene.rent()
    before = scene.state.essence()
    # FF-CMD-03

    answer = scene.answer(
        replace(_command(opcode), rental_id=RENTAL, expected_version=ANY_VERSION)
    )

    assert (answer.code, answer.executed) == (Code.UNKNOWN_OPCODE, Executed.NO)
    assert scene.state.essence() == before
