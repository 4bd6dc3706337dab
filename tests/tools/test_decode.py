"""``freefloat decode`` on good frames, bad frames and no frames at all."""

import base64
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certs.fleet import FleetDirectory
from certs.recertification import recertify
from certs.vehicle import issue_vehicles
from protocol.fleet import FleetPart, VehiclePart
from protocol.frame import parse_frame
from protocol.keyfile import parse_signing_key
from protocol.signing import sign_frame
from tests.gateway.uplink.key_holder import FakeKeyHolder
from tests.protocol.vector_file import ACCEPTED, FRAMES, REFUSED, frame_of
from tests.tools.command_line import PYTHON, SOURCES, freefloat, require_clear_failure
from tools.cli import run
from tools.published_keys import CAR_A, CAR_A_KEY, FLEET_ID

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> FleetDirectory:
    path = tmp_path_factory.mktemp("decode") / "fleet"
    made = FleetDirectory.create(path, name="decode", hosts=(), now=NOW)
    issue_vehicles(made, [CAR_A], now=NOW)
    return made


def _signed(fleet: FleetDirectory, name: str) -> bytes:
    """Sign the frame of a vector again, by the fleet's own keys."""
    frame = parse_frame(frame_of(name))
    if frame.header.frame_class.from_vehicle:
        path = fleet.vehicle_directory(CAR_A) / VehiclePart.SIGNING_KEY
    else:
        path = fleet.path / FleetPart.COMMAND_KEY
    key = parse_signing_key(path.read_bytes(), name="key")
    header = replace(frame.header, key_id=key.key_id)
    return sign_frame(header, frame.payload, fleet_id=fleet.fleet.fleet_id, key=key)


def _documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_frame_in_hexadecimal_is_explained(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = run(["decode", frame_of("cmd_reserve").hex()])

    shown = capsys.readouterr().out
    assert code == 0
    assert shown.startswith("CMD 0x0201 RESERVE lane RENTAL")
    assert "signature   not checked" in shown
    assert f"vehicle_id                 {CAR_A}" in shown
    assert "sealed                     109 bytes, sealed" in shown
    assert "0000  46 46 01" in shown


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_good_vector_is_explained_in_base64(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["decode", "--json", base64.b64encode(frame_of(name)).decode()])

    (document,) = _documents(capsys.readouterr().out)
    assert code == 0
    assert document["good"] is True
    assert document["header"]["type_name"] != "unknown"
    body = dict(FRAMES[name]["fields"]["body"])
    if "sealed" in body:
        body["sealed"] = document["body"]["sealed"]
    assert document["body"] == body


@pytest.mark.parametrize("name", sorted(set(REFUSED) - {"bad_empty"}))
def test_every_bad_vector_is_explained_and_fails(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    vector = REFUSED[name]
    options = ["--key", vector["key"]["public"], "--fleet-id", vector["fleet_id"]]

    code = run(["decode", "--json", *options, vector["frame"]])

    (document,) = _documents(capsys.readouterr().out)
    assert code == 1
    assert document["good"] is False
    if vector["expected"]["stage"] == "verify":
        assert document["signature"]["holds"] is False
        assert vector["expected"]["code"] in document["signature"]["detail"]
    else:
        assert document["error"]["code"] == vector["expected"]["code"]


def test_a_key_verifies_with_the_fleet_id(capsys: pytest.CaptureFixture[str]) -> None:
    vector = ACCEPTED["event_rental_ended"]

    options = ["--key", vector["key"]["public"], "--fleet-id", FLEET_ID.hex()]

    code = run(["decode", *options, vector["frame"]])

    assert code == 0
    assert f"holds, by key {vector['key']['key_id']}" in capsys.readouterr().out


def test_a_fleet_verifies_what_its_cars_and_its_signer_signed(
    fleet: FleetDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = [_signed(fleet, name).hex() for name in ("event_parked", "cmd_unlock")]

    code = run(["decode", "--json", "--fleet", str(fleet.path), *frames])

    documents = _documents(capsys.readouterr().out)
    assert code == 0
    assert [document["signature"]["detail"] for document in documents] == [
        f"holds, by vehicle {CAR_A}",
        "holds, by RENTAL key of trust bundle 1",
    ]


@pytest.mark.parametrize("name", ["event_parked", "cmd_unlock"])
def test_a_fleet_refuses_the_frames_of_another(
    fleet: FleetDirectory, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["decode", "--fleet", str(fleet.path), frame_of(name).hex()])

    assert code == 1
    assert "signature   refused:" in capsys.readouterr().out


def test_frames_of_before_and_after_a_rotation_are_verified(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """FF-ENR-23: by the record that the office certified anew."""
    fleet = FleetDirectory.create(tmp_path / "fleet", name="decode", now=NOW)
    issue_vehicles(fleet, [CAR_A], now=NOW)
    path = fleet.vehicle_directory(CAR_A) / VehiclePart.SIGNING_KEY
    holder = FakeKeyHolder(
        parse_signing_key(path.read_bytes(), name="key"),
        vehicle_id=CAR_A,
        fleet_id=fleet.fleet.fleet_id,
    )
    before, after = holder.rotate(), holder.rotate()
    lines = f"{before.hex()}\n{after.hex()}\n"
    file = tmp_path / "frames"
    file.write_text(lines)
    assert run(["decode", "--fleet", str(fleet.path), str(file)]) == 1
    with fleet.issuing() as enrolled:
        recertify(
            fleet,
            fleet.issuing_authority(),
            CAR_A,
            [before],
            enrolled=enrolled,
            now=NOW,
        )
    capsys.readouterr()

    assert run(["decode", "--fleet", str(fleet.path), str(file)]) == 0


def test_a_frame_of_an_unregistered_car_is_refused(
    fleet: FleetDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = FleetDirectory.create(tmp_path / "fleet", name="empty", hosts=(), now=NOW)

    code = run(["decode", "--fleet", str(empty.path), frame_of("event_parked").hex()])

    assert code == 1
    assert "is not registered in" in capsys.readouterr().out
    assert fleet.path != empty.path


def test_a_public_key_may_come_from_a_file(
    fleet: FleetDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(fleet.path / "trust" / "root-1.pub")
    certificate = str(fleet.path / FleetPart.ISSUING_CERTIFICATE)
    nonsense = tmp_path / "nonsense"
    nonsense.write_bytes(b"\xff" * 40)
    frame = frame_of("event_parked").hex()

    in_fleet = ["decode", "--fleet", str(fleet.path), "--key"]
    assert run([*in_fleet, root, frame]) == 1
    assert "frame names key" in capsys.readouterr().out
    for path in (certificate, str(nonsense)):
        assert run([*in_fleet, path, frame]) == 1
        assert "holds no public key" in capsys.readouterr().err


def test_a_file_of_lines_is_shown_whole_though_one_is_bad(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unlock = frame_of("cmd_unlock")
    capture = tmp_path / "capture.txt"
    capture.write_text(
        f"# a capture\n\n{unlock.hex(' ')}\n{unlock.hex(':')}\n0x{unlock.hex()}\n"
        f"not a frame\n{base64.b64encode(unlock).decode()}\n"
    )

    code = run(["decode", "--json", str(capture)])

    documents = _documents(capsys.readouterr().out)
    assert code == 1
    assert [document["good"] for document in documents] == [
        True,
        True,
        True,
        False,
        True,
    ]
    assert "line 6" in documents[3]["error"]["detail"]


def test_raw_frames_may_follow_one_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("cmd_unlock", "event_rental_ended", "telem_full")
    capture = tmp_path / "capture.bin"
    capture.write_bytes(b"".join(frame_of(name) for name in names) + b"rest")

    code = run(["decode", "--json", str(capture)])

    documents = _documents(capsys.readouterr().out)
    assert code == 1
    assert [document["hex"] for document in documents] == [
        *(frame_of(name).hex() for name in names),
        b"rest".hex(),
    ]


def test_bytes_that_are_neither_text_nor_frame_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture = tmp_path / "noise.bin"
    capture.write_bytes(bytes(range(256)) * 40)

    code = run(["decode", str(capture)])

    shown = capsys.readouterr().out
    assert code == 1
    assert shown.startswith("no frame: 4097 bytes")
    assert "0000  00 01 02" in shown


def test_frames_come_from_a_pipe() -> None:
    done = subprocess.run(
        [*PYTHON, "decode", "--json"],
        input=frame_of("telem_full"),
        cwd=SOURCES,
        capture_output=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0
    assert json.loads(done.stdout)["size"] == 1057


def test_a_far_wall_clock_is_shown_as_no_date(
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = bytearray(frame_of("event_parked"))
    data[68:76] = b"\xff" * 8

    run(["decode", "--json", bytes(data).hex()])

    (document,) = _documents(capsys.readouterr().out)
    assert document["header"]["wall_time"] is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--key", CAR_A_KEY.key.verify_key.raw.hex(), "00"],
            "--key needs the fleet id",
        ),
        (["--fleet-id", FLEET_ID.hex(), "00"], "--fleet-id alone names no key"),
        (["--fleet-id", "f1ee", "00"], "is not 32 hexadecimal digits"),
        (
            ["--fleet-id", FLEET_ID.hex(), "--key", "abcd", "00"],
            "64 hexadecimal digits",
        ),
        (["--fleet-id", FLEET_ID.hex(), "--key", "00" * 32, "00"], "small order"),
        (["--fleet", "nowhere", "00"], "holds no fleet"),
        (["--key", "\0", "--fleet-id", FLEET_ID.hex(), "00"], "--key"),
    ],
)
def test_a_wrong_option_is_answered_with_what_to_do(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(["decode", *arguments])

    captured = capsys.readouterr()
    assert code == 1
    assert captured.out == ""
    assert sentence in captured.err
    assert len(captured.err.splitlines()) == 2


def test_no_frame_at_all_is_a_clear_failure(tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("# nothing\n")

    require_clear_failure(freefloat("decode", empty), "no frame in the input")


def test_input_beyond_the_limit_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules["tools.decode"], "INPUT_LIMIT", 1024)
    large = tmp_path / "large.txt"
    large.write_bytes(b"0" * 1025)

    assert run(["decode", str(large)]) == 1
    assert "cut it into smaller parts" in capsys.readouterr().err


def test_a_line_longer_than_any_frame_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["decode", "00" * 10_000]) == 1
    assert "20000 characters" in capsys.readouterr().out


def test_help_shows_worked_examples() -> None:
    done = freefloat("decode", "--help")

    assert done.returncode == 0
    assert "freefloat decode --fleet fleet capture.txt" in done.stdout


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.binary(max_size=600), name=st.sampled_from(sorted(ACCEPTED)))
def test_no_input_ends_in_a_traceback(
    data: bytes, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = frame_of(name)
    capture = tmp_path / "capture"
    for content in (data, frame[:92] + data + frame[-64:]):
        capture.write_bytes(content)

        code = run(["decode", str(capture)])

        captured = capsys.readouterr()
        assert code in {0, 1}
        assert "Traceback" not in captured.err


def test_a_bad_frame_ends_with_what_to_do() -> None:
    done = freefloat("decode", "4646")

    assert done.returncode == 1
    assert "2 bytes, a frame has 156 to 4096" in done.stdout
    assert done.stderr.startswith("error: 1 of 1 frames cannot be believed")
    assert "give the whole frame" in done.stderr
