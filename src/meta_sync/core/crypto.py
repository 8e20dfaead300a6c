"""Encryption of secrets at rest, bound to the row that holds them, and comparison in constant time."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr

__all__ = ["Cipher", "DecryptionError", "generate_encryption_key", "secret_hash", "secrets_equal"]

_FORMAT = b"\x01"
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12


class DecryptionError(Exception):
    """No configured key opens the value, or it was moved from another row."""


def generate_encryption_key() -> str:
    """A fresh 256-bit key in the base64 form that ``META_SYNC_ENCRYPTION_KEYS`` takes."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def secret_hash(secret: str) -> bytes:
    """SHA-256 of a secret with at least 128 random bits, for look-up. Not for passwords."""
    return hashlib.sha256(secret.encode()).digest()


def secrets_equal(left: str, right: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(left.encode(), right.encode())


class Cipher:
    """AES-256-GCM with key rotation.

    The context (table, column and key of the row) is authenticated with the value, so that a ciphertext copied into
    another row does not open there. The newest key encrypts; every key decrypts.
    """

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        if not keys:
            raise ValueError("at least one encryption key is needed")
        raw = [base64.b64decode(key.get_secret_value(), altchars=b"-_") for key in keys]
        self._keys = {hashlib.sha256(key).digest()[:_KEY_ID_BYTES]: AESGCM(key) for key in raw}
        self._newest = next(iter(self._keys))

    def encrypt(self, secret: SecretStr, *, context: str) -> bytes:
        """Encrypt for the row that the context names, such as ``credentials.token:cred_1``."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._keys[self._newest].encrypt(nonce, secret.get_secret_value().encode(), context.encode())
        return _FORMAT + self._newest + nonce + sealed

    def decrypt(self, value: bytes, *, context: str) -> SecretStr:
        """Open a value that was encrypted with the same context.

        Raises
        ------
        DecryptionError
            The key is not configured, or the value is damaged or belongs to another row.
        """
        key_id = value[1 : 1 + _KEY_ID_BYTES]
        key = self._keys.get(key_id)
        if value[:1] != _FORMAT or key is None:
            raise DecryptionError(
                "the value was encrypted with a key that is not in META_SYNC_ENCRYPTION_KEYS"
            )
        start = 1 + _KEY_ID_BYTES
        try:
            plain = key.decrypt(
                value[start : start + _NONCE_BYTES], value[start + _NONCE_BYTES :], context.encode()
            )
        except InvalidTag:
            raise DecryptionError("the value is damaged or belongs to another row") from None
        return SecretStr(plain.decode())

    def is_current(self, value: bytes) -> bool:
        """Whether the value was encrypted with the newest key."""
        return value[1 : 1 + _KEY_ID_BYTES] == self._newest
