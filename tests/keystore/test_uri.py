"""PKCS#11 URIs (RFC 7512): one key of one token, and no PIN."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keystore.errors import UriError
from keystore.uri import TokenUri, is_token_uri

GOOD = "pkcs11:token=ff%20fleet;object=ca?module-path=/lib/p11.so&pin-source=/etc/pin"


def test_a_uri_names_module_token_key_and_pin_file() -> None:
    assert TokenUri.parse(GOOD) == TokenUri(
        module_path="/lib/p11.so",
        token="ff fleet",
        serial="",
        label="ca",
        object_id=b"",
        pin_source="/etc/pin",
    )


def test_an_id_and_a_serial_name_a_key_as_well() -> None:
    uri = TokenUri.parse(
        "pkcs11:serial=0a1b;id=%00%FF;type=private?module-path=/p&pin-source=file:/pin"
    )

    assert (uri.serial, uri.object_id, uri.pin_source) == ("0a1b", b"\x00\xff", "/pin")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no PKCS#11 URI"),
        ("/etc/key.pem", "no PKCS#11 URI"),
        ("pkcs11:" + "a" * 3_000, "no PKCS#11 URI"),
        ("pkcs11:object=a?module-path=/p", "has no token or serial"),
        ("pkcs11:token=a?module-path=/p", "has no object or id"),
        ("pkcs11:token=a;object=b", "has no module-path"),
        ("pkcs11:token=a;object=b;slot-id=1?module-path=/p", "'slot-id'"),
        ("pkcs11:token=a;object=b;object=c?module-path=/p", "'object'"),
        ("pkcs11:token=a;object=b?module-path=/p&module-path=/q", "'module-path'"),
        ("pkcs11:token;object=b?module-path=/p", "'token'"),
        ("pkcs11:token=%zz;object=b?module-path=/p", "'token'"),
        ("pkcs11:token=%ff;object=b?module-path=/p", "not UTF-8"),
        ("pkcs11:token=a;object=b;type=public?module-path=/p", "type is not private"),
        ("pkcs11:token=a;id=" + "%01" * 65 + "?module-path=/p", "more than 64 bytes"),
    ],
)
def test_what_does_not_name_one_key_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UriError, match=reason):
        TokenUri.parse(text)


def test_a_pin_in_the_uri_is_refused_and_not_repeated() -> None:
    # K2: URIs stand in settings and logs.
    with pytest.raises(UriError) as caught:
        TokenUri.parse("pkcs11:token=a;object=b?module-path=/p&pin-value=271828")

    assert "271828" not in str(caught.value) + caught.value.advice


@given(
    token=st.text(min_size=1, max_size=32),
    label=st.text(max_size=32),
    object_id=st.binary(max_size=64),
    pin=st.text(max_size=32).filter(lambda text: not text.startswith("file:")),
)
def test_a_uri_survives_being_written_and_read(
    token: str, label: str, object_id: bytes, pin: str
) -> None:
    uri = TokenUri("/p", token, "", label, object_id or b"\1", pin)

    assert TokenUri.parse(str(uri)) == uri


def test_a_path_is_no_uri() -> None:
    assert is_token_uri(GOOD)
    assert not is_token_uri("fleet/ca/issuing.key")
