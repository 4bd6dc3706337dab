"""The enrolment desk's rules against every order of events (reliability.md K10).

FF-ENR-06, FF-ENR-07, FF-ENR-10, FF-ENR-11, FF-ENR-20. A claim is used by one device at
most, two devices never get one name, no two names have one key, and a withdrawn vehicle
gets nothing. Hypothesis draws devices that ask with open, used, foreign and made-up
claims, lose answers, copy each other's keys, renew, and are withdrawn, while the
authority's clock goes on.
"""

import contextlib
import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from certs.authority import common_name
from certs.books import spki_digest
from certs.desk import Answer, Asker, EnrolmentDesk
from certs.enrolment import VehicleKeys
from certs.errors import DuplicateError
from certs.fleet import FleetDirectory
from certs.refusal import Reason, RefusedError
from certs.revocation import revoke_vehicle
from certs.vehicle import random_vehicle_id
from certs.voucher import make_claim
from protocol.enrolment import grace_message
from protocol.identity import VehicleId
from tests.certs.office import tls_request

START: Final = datetime(2026, 3, 1, tzinfo=UTC)
PEER: Final = Asker("192.0.2.1")


class Device:
    """A device: keys, and what it was given."""

    def __init__(self, keys: VehicleKeys) -> None:
        self.keys = keys
        self.vehicle_id: VehicleId | None = None
        self.certificate: x509.Certificate | None = None


Made = tuple[str, VehicleId, datetime]
"""A claim's text, whose it is, and until when."""

Enrolled = tuple[Made, Device]


class Desk(RuleBasedStateMachine):
    """The desk, its devices, and a model of who may have what."""

    devices = Bundle("devices")
    claims = Bundle("claims")
    enrolled = Bundle("enrolled")

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="freefloat-desk-"))
        self.now = START
        self.fleet = FleetDirectory.create(
            self.folder / "fleet", name="Desk", now=START
        )
        self.books = self.fleet.books()
        self.desk = EnrolmentDesk(
            self.fleet,
            self.books,
            self.fleet.audit_log,
            self.fleet.issuing_authority(),
        )
        self.used_by: dict[str, bytes] = {}
        """Claim -> the signing key that enrolled with it."""
        self.owner: dict[VehicleId, bytes] = {}
        """Name -> signing key."""
        self.sealing: dict[VehicleId, bytes] = {}
        """Name -> sealing key."""
        self.withdrawn: set[VehicleId] = set()

    def teardown(self) -> None:
        self.books.close()
        shutil.rmtree(self.folder)

    @rule(target=devices)
    def build_device(self) -> Device:
        return Device(VehicleKeys.generate())

    @rule(target=devices, original=devices, part=st.sampled_from(["tls", "signing"]))
    def copy_keys(self, original: Device, part: str) -> Device:
        fresh = VehicleKeys.generate()
        tls = original.keys.tls if part == "tls" else fresh.tls
        signing = original.keys.signing if part == "signing" else fresh.signing
        return Device(VehicleKeys(tls, signing, fresh.sealing))

    @rule(target=claims)
    def make_claim_for_later(self) -> Made:
        return self.make_new_claim()

    def make_new_claim(self) -> Made:
        made = make_claim(
            self.fleet, self.books, vehicle_id=random_vehicle_id(), now=self.now
        )
        return made.text, made.voucher.vehicle_id, made.voucher.expires

    @rule(claim=claims)
    def make_a_second_claim(self, claim: Made) -> None:
        _text, vehicle_id, expires = claim
        if vehicle_id in self.owner or expires > self.now:
            with pytest.raises(DuplicateError):
                make_claim(self.fleet, self.books, vehicle_id=vehicle_id, now=self.now)

    @rule(hours=st.integers(1, 24 * 20))
    def wait(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(
        device=devices,
        claim=claims,
        is_lost=st.booleans(),
        other_name=st.none() | claims,
    )
    def try_to_enroll(
        self, device: Device, claim: Made, is_lost: bool, other_name: Made | None
    ) -> None:
        self.enroll(device, claim, is_lost=is_lost, other_name=other_name)

    def enroll(
        self, device: Device, claim: Made, *, is_lost: bool, other_name: Made | None
    ) -> None:
        text, bound_to, expires = claim
        vehicle_id = bound_to if other_name is None else other_name[1]
        key = device.keys.signing.verify_key.raw
        asked = device.keys.claim(vehicle_id, fleet_id=self.fleet.fleet.fleet_id)
        known = vehicle_id in self.owner
        try:
            answer = self.desk.enroll(text, asked, asker=PEER, now=self.now)
        except RefusedError:
            # The device whose answer was lost gets it again, as long as the claim runs.
            assert (
                self.owner.get(vehicle_id) != key
                or self.sealing[vehicle_id] != asked.sealing_key
                or self.used_by.get(text) != key
                or vehicle_id in self.withdrawn
                or expires <= self.now
            ), "no second answer"
            return
        assert vehicle_id == bound_to, "a claim of another vehicle"
        assert expires > self.now, "a claim that is over"
        assert vehicle_id not in self.withdrawn, "a withdrawn vehicle"
        assert self.used_by.setdefault(text, key) == key, "a claim used twice"
        assert self.owner.setdefault(vehicle_id, key) == key, "one name, two devices"
        assert not known or self.used_by[text] == key
        self.sealing[vehicle_id] = asked.sealing_key
        if not is_lost:
            self._take(device, vehicle_id, answer)

    @rule(claim=claims, device=devices)
    def enroll_with_a_made_up_claim(self, claim: Made, device: Device) -> None:
        asked = device.keys.claim(claim[1], fleet_id=self.fleet.fleet.fleet_id)
        with pytest.raises(RefusedError):
            self.desk.enroll("FF-" + "A" * 32, asked, asker=PEER, now=self.now)

    @rule(target=enrolled)
    def enroll_one_more(self) -> Enrolled:
        claim, device = self.make_new_claim(), Device(VehicleKeys.generate())
        self.enroll(device, claim, is_lost=False, other_name=None)
        assert device.vehicle_id == claim[1]
        return claim, device

    @rule(one=enrolled)
    def use_a_used_claim(self, one: Enrolled) -> None:
        (text, vehicle_id, _expires), _device = one
        thief = VehicleKeys.generate().claim(
            vehicle_id, fleet_id=self.fleet.fleet.fleet_id
        )
        with pytest.raises(RefusedError):
            self.desk.enroll(text, thief, asker=PEER, now=self.now)

    @rule(one=enrolled, part=st.sampled_from(["tls", "signing", "sealing"]))
    def enroll_with_a_copied_key(self, one: Enrolled, part: str) -> None:
        keys, fresh = one[1].keys, VehicleKeys.generate()
        copied = VehicleKeys(
            keys.tls if part == "tls" else fresh.tls,
            keys.signing if part == "signing" else fresh.signing,
            keys.sealing if part == "sealing" else fresh.sealing,
        )
        text, vehicle_id, _expires = self.make_new_claim()
        claim = copied.claim(vehicle_id, fleet_id=self.fleet.fleet.fleet_id)
        with pytest.raises(RefusedError):
            self.desk.enroll(text, claim, asker=PEER, now=self.now)

    @rule(one=enrolled)
    def renew(self, one: Enrolled) -> None:
        device = one[1]
        assert device.certificate is not None
        assert device.vehicle_id is not None
        der, _key = tls_request(str(device.vehicle_id))
        valid = device.certificate.not_valid_after_utc > self.now
        asker = Asker("192.0.2.1", device.certificate)
        answer, reason = None, None
        try:
            answer = self.desk.reenroll(
                x509.load_der_x509_csr(der), asker=asker, now=self.now
            )
        except RefusedError as error:
            reason = error.reason
        if answer is None:
            is_withdrawn = device.vehicle_id in self.withdrawn
            assert not valid or is_withdrawn or reason is Reason.TOO_OFTEN
            return
        assert valid, "a certificate that is over renewed"
        self._take(device, device.vehicle_id, answer)

    @rule(one=enrolled, is_withdrawn=st.booleans())
    def use_grace_twice(self, one: Enrolled, is_withdrawn: bool) -> None:
        device = one[1]
        vehicle_id = one[0][1]
        if is_withdrawn:
            self.withdraw(one)
        nonce = self.desk.give_nonce(vehicle_id, now=self.now)
        der, _key = tls_request(str(vehicle_id))
        message = grace_message(self.fleet.fleet.fleet_id, vehicle_id, nonce, der)
        signature = device.keys.signing.sign(message)

        def ask() -> Answer:
            return self.desk.grace(
                vehicle_id,
                x509.load_der_x509_csr(der),
                request_der=der,
                nonce=nonce,
                signature=signature,
                asker=PEER,
                now=self.now,
            )

        with contextlib.suppress(RefusedError):
            answer = ask()
            self._take(device, vehicle_id, answer)
        with pytest.raises(RefusedError):
            ask()

    @rule(one=enrolled, other=devices)
    def use_grace_for_another(self, one: Enrolled, other: Device) -> None:
        vehicle_id = one[0][1]
        if other.keys.signing.verify_key.raw == self.owner[vehicle_id]:
            return
        nonce = self.desk.give_nonce(vehicle_id, now=self.now)
        der, _key = tls_request(str(vehicle_id))
        message = grace_message(self.fleet.fleet.fleet_id, vehicle_id, nonce, der)
        with pytest.raises(RefusedError):
            self.desk.grace(
                vehicle_id,
                x509.load_der_x509_csr(der),
                request_der=der,
                nonce=nonce,
                signature=other.keys.signing.sign(message),
                asker=PEER,
                now=self.now,
            )

    @rule(one=enrolled)
    def withdraw_one(self, one: Enrolled) -> None:
        self.withdraw(one)

    def withdraw(self, one: Enrolled) -> None:
        vehicle_id = one[0][1]
        if vehicle_id not in self.withdrawn:
            revoke_vehicle(self.fleet, vehicle_id, now=self.now)
            self.withdrawn.add(vehicle_id)

    def _take(self, device: Device, vehicle_id: VehicleId, answer: Answer) -> None:
        assert vehicle_id not in self.withdrawn, "a withdrawn vehicle got something"
        assert common_name(answer.certificate) == str(vehicle_id)
        device.vehicle_id, device.certificate = vehicle_id, answer.certificate

    @invariant()
    def the_registry_is_who_was_enrolled_and_not_withdrawn(self) -> None:
        assert set(self.fleet.vehicle_ids()) == set(self.owner) - self.withdrawn
        assert set(self.fleet.revoked_ids()) == self.withdrawn

    @invariant()
    def no_key_has_two_names(self) -> None:
        keys = list(self.owner.values())
        assert len(set(keys)) == len(keys)
        names: dict[bytes, set[VehicleId]] = {}
        for one in self.books.running(now=self.now):
            spki = spki_digest(one.certificate.public_key())
            names.setdefault(spki, set()).add(one.vehicle_id)
        assert all(len(owners) == 1 for owners in names.values())


def test_the_rules_of_enrolment_hold_in_every_order() -> None:
    run_state_machine_as_test(
        Desk,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
