"""One token for the whole run: SoftHSM looks for its settings once a process."""

import pytest

from keystore.token import TokenKey, generate_token_key
from keystore.uri import TokenUri
from protocol.codes import Suite
from tests.softhsm import Token, make_token


@pytest.fixture(scope="session")
def token(tmp_path_factory: pytest.TempPathFactory) -> Token:
    return make_token(tmp_path_factory.mktemp("softhsm"))


@pytest.fixture(scope="session")
def keys(token: Token) -> dict[Suite, TokenKey]:
    return {
        suite: generate_token_key(TokenUri.parse(token.uri(suite.name)), suite)
        for suite in (Suite.P256, Suite.ED25519)
    }
