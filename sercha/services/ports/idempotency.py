"""First answers of requests, kept so that a repeat gets the same one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

from sercha.services.ports.database import Transaction

PATH_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class RequestIdentity:
    """What makes two requests the same one."""

    principal: str
    """The user's id; empty where nobody has to log in."""
    method: str
    path: str
    key: str

    @staticmethod
    def of(principal: str, method: str, path: str, key: str) -> RequestIdentity:
        """Return an identity; of a path that no operation of ours has, only a digest is kept."""
        if len(path) > PATH_CHARS_MAX or not path.isascii() or not path.isprintable():
            path = f"sha256:{hashlib.sha256(path.encode(errors='surrogatepass')).hexdigest()}"
        return RequestIdentity(principal, method, path, key)

    def digest(self) -> bytes:
        """Return 32 bytes that stand for it."""
        whole = hashlib.sha256()
        for part in (self.principal, self.method, self.path, self.key):
            content = part.encode()
            whole.update(len(content).to_bytes(4, "big") + content)
        return whole.digest()


@dataclass(frozen=True, slots=True)
class SealedAnswer:
    """A first answer, as it is stored."""

    request_hash: bytes
    status: int
    content: bytes


class AnswerStore(Protocol):
    """Keeps first answers. Every call is a statement of its own in *tx*, so that it sees what was committed before."""

    async def take(self, tx: Transaction, identity: RequestIdentity, *, idle_max: float) -> bool:
        """Take the turn of *identity* until *tx* ends, without waiting; False: somebody else has it.

        A holder that stands still for *idle_max* seconds loses its transaction, and the turn with it.
        """
        ...

    async def find(self, tx: Transaction, identity: RequestIdentity) -> SealedAnswer | None:
        """Return the answer that is kept and has not expired."""
        ...

    async def keep(
        self, tx: Transaction, identity: RequestIdentity, answer: SealedAnswer, *, kept: float
    ) -> bool:
        """Keep an answer for *kept* seconds when *tx* commits; False: there is one already."""
        ...


class Seal(Protocol):
    """Makes what is stored unreadable without the master key, and tells bodies apart without keeping them."""

    def digest(self, content: bytes) -> bytes:
        """Return a keyed hash."""
        ...

    def close(self, content: bytes, context: bytes) -> bytes:
        """Encrypt *content* so that it opens only with the same *context*."""
        ...

    def open(self, sealed: bytes, context: bytes) -> bytes | None:
        """Decrypt; None when it was sealed with another key or for another context."""
        ...
