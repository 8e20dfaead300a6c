from __future__ import annotations

import dataclasses

import pytest
from pydantic import SecretStr

from meta_sync.graph.auth import GraphCredential, app_credential, appsecret_proof


def test_proof_is_the_keyed_hash_of_the_token() -> None:
    # From RFC 4231, test case 2: the key is the secret, the message is the token.
    assert (
        appsecret_proof("what do ya want for nothing?", "Jefe")
        == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    )


def test_a_credential_shows_no_secret_and_cannot_be_changed() -> None:
    credential = GraphCredential(SecretStr("EAABcanary"), "123", SecretStr("app-secret-canary"))
    assert "canary" not in repr(credential)
    with pytest.raises(dataclasses.FrozenInstanceError):
        credential.app_id = "124"  # type: ignore[misc]  # that it cannot be assigned is the point


def test_the_apps_own_token_is_id_and_secret() -> None:
    credential = app_credential("123", SecretStr("s3cret"))
    assert credential.access_token.get_secret_value() == "123|s3cret"
    assert credential.app_id == "123"
    assert credential.app_secret is not None
