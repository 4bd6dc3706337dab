"""Settings of a signer: a TOML file of its own, typed, unknown keys refused.

::

    [fleet]
    directory = "fleet"              # fleet.json, trust/, signer/command-1.key

    [socket]
    path = "/run/freefloat-signer/signer.sock"
    peers = [997]                    # uids that may ask; empty: the signer's own
"""

from pathlib import Path
from typing import Annotated

import msgspec

from bridge.errors import SettingsError
from bridge.settings import FleetSettings, Settings, Text
from protocol.codes import Opcode
from protocol.errors import ProtocolError
from protocol.keys import VerifyKey

FILE_LIMIT = 65_536
"""Bytes of a settings file."""

Count = Annotated[int, msgspec.Meta(ge=1, le=100_000_000)]


class SocketSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where bridges ask."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    """The Unix socket."""
    is_for_group: bool = False
    """Mode 0660 instead of 0600: who is in the socket's group may connect too."""
    peers: tuple[Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)], ...] = ()
    """Users that may ask, by number; empty: the signer's own alone."""


class PolicySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is signed at most."""

    opcodes: tuple[str, ...] = ()
    """Kinds of command in lower case; empty: all that the trust bundle allows."""
    life_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 86_400
    """Longest life of a command; the protocol's own limit counts besides."""
    commands_per_minute: Count = 1_200
    """Commands."""
    commands_per_day: Count = 200_000
    """Commands."""
    vehicles: Count = 2_000
    """Different cars that get commands within `window_s`."""
    window_s: Annotated[int, msgspec.Meta(ge=1, le=86_400)] = 600
    """How far back cars are counted."""
    frames_per_minute: Count = 120_000
    """Frames of any kind; when all cars come back each gets a few."""


class SecondPersonSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the signer signs only with an approver's signature (K28)."""

    required: bool = True
    """False: nothing, and whoever owns the bridge can stop the fleet by himself."""
    window_s: Annotated[int, msgspec.Meta(ge=60, le=86_400)] = 600
    """How far back vehicles are counted."""
    vehicles: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 60
    """Different vehicles that get orders outside rentals within it without one, and as
    many that get configurations; as `approvals.vehicles` of the bridge."""


class ApproverSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A person who may let orders go that somebody else gave."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    """For the log; a name of theirs at the bridge."""
    public_key: Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64}|[0-9a-f]{66})$")]
    """Of their own signing key: Ed25519, or P-256 compressed, in hexadecimal."""
    callers: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=64)], ...] = ()
    """Every other name under which they may ask the bridge."""


class SignerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it."""

    fleet: FleetSettings
    """As the bridge's; only identity, trust bundle and command key are read."""
    socket: SocketSettings
    """Where bridges ask."""
    policy: PolicySettings = PolicySettings()
    """What is signed at most."""
    second_person: SecondPersonSettings = SecondPersonSettings()
    """What needs an approver's signature."""
    approver: tuple[ApproverSettings, ...] = ()
    """Who may give it."""
    log: Text = "signer-log"
    """Directory of the log of what was signed."""

    def as_bridge(self) -> Settings:
        """Return what the readers of a fleet's files take."""
        return Settings(fleet=self.fleet)


def load_signer_settings(path: Path) -> SignerSettings:
    """Read a settings file; relative paths are taken from its directory.

    Raises:
        SettingsError: it cannot be read, an unknown key or a wrong value.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT)
        found = msgspec.toml.decode(data, type=SignerSettings)
    except OSError as error:
        raise SettingsError(
            f"settings {path} cannot be read: {error.strerror}",
            advice="check the path given with --config",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        text = str(error).replace("`", "'")
        raise SettingsError(
            f"settings {path}: {text[:1].lower()}{text[1:]}",
            advice="see deploy/signer.toml for an example",
        ) from None
    for name in found.policy.opcodes:
        if name.upper() not in Opcode.__members__:
            raise SettingsError(
                f"settings {path}: policy.opcodes names {name!r}, which is no command",
                advice="use the names of docs/api.md, such as unlock",
            )
    for one in found.approver:
        _require_key(one, path)
    return anchored_signer(found, path.parent)


def _require_key(one: ApproverSettings, path: Path) -> None:
    try:
        VerifyKey.load(bytes.fromhex(one.public_key))
    except ProtocolError as error:
        raise SettingsError(
            f"settings {path}: the public key of approver {one.name} is none: {error}",
            advice="copy it from `freefloat signer approver KEY-FILE`",
        ) from error


def anchored_signer(found: SignerSettings, directory: Path) -> SignerSettings:
    """Return the settings with every relative path taken from `directory`."""
    replace = msgspec.structs.replace
    fleet = found.fleet

    def at(path: str | None) -> str | None:
        is_path = path is not None and not path.startswith("pkcs11:")
        return str(directory / path) if path is not None and is_path else path

    return replace(
        found,
        fleet=replace(
            fleet,
            directory=str(directory / fleet.directory),
            trust_bundle=at(fleet.trust_bundle),
            command_key=at(fleet.command_key),
        ),
        socket=replace(found.socket, path=str(directory / found.socket.path)),
        log=str(directory / found.log),
    )
