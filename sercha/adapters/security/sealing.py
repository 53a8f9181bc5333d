"""Sealing of what is stored: AES-256-GCM (NIST SP 800-38D) and HMAC-SHA256, each with a key of its own.

Both keys come from the master key by HKDF-SHA256 (RFC 5869), which keeps them apart from everything else that is
ever derived from it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

NONCE_BYTES = 12
"""Random for each answer: good for 2^32 of them under one key."""
FORMAT = b"\x01"


class MasterKeySeal:
    """`sercha.services.ports.idempotency.Seal`, with keys derived from ``MASTER_KEY``."""

    def __init__(self, master_key: bytes) -> None:
        self._cipher = AESGCM(_derived(master_key, b"sercha idempotency answer"))
        self._hash_key = _derived(master_key, b"sercha idempotency request hash")

    def digest(self, content: bytes) -> bytes:
        """Return a keyed hash of 32 bytes: without the key nobody can try passwords against it."""
        return hmac.digest(self._hash_key, content, hashlib.sha256)

    def close(self, content: bytes, context: bytes) -> bytes:
        """Encrypt *content* so that it opens only with the same *context*."""
        return _sealed(self._cipher, content, context)

    def open(self, sealed: bytes, context: bytes) -> bytes | None:
        """Decrypt; None when it was sealed with another key or for another context."""
        return _opened(self._cipher, sealed, context)


class SecretSeal:
    """Satisfies `sercha.services.ports.secrets.SecretSeal`: keeps keys of other services under ``MASTER_KEY``."""

    def __init__(self, master_key: bytes) -> None:
        self._cipher = AESGCM(_derived(master_key, b"sercha stored secret"))

    def close(self, secret: str, context: str) -> bytes:
        """Encrypt *secret* so that it opens only with the same *context*."""
        return _sealed(self._cipher, secret.encode(), context.encode())

    def open(self, sealed: bytes, context: str) -> str | None:
        """Decrypt; None when it was sealed with another key or for another context."""
        content = _opened(self._cipher, sealed, context.encode())
        return None if content is None else content.decode()


def _sealed(cipher: AESGCM, content: bytes, context: bytes) -> bytes:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return FORMAT + nonce + cipher.encrypt(nonce, content, context)


def _opened(cipher: AESGCM, sealed: bytes, context: bytes) -> bytes | None:
    if sealed[:1] != FORMAT:
        return None
    nonce, encrypted = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    try:
        return cipher.decrypt(nonce, encrypted, context)
    except (InvalidTag, ValueError):
        return None


def _derived(master_key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(master_key)
