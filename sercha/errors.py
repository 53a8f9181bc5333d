"""Every error that Sercha raises on purpose, named by what the caller can do about it.

    SerchaError
    ├── Transient          try again later (``retry_after`` in seconds when known)
    │   └── Unavailable    a server we need (PostgreSQL, an index) is away
    ├── Rejected           never worth a retry: the input is wrong
    │   ├── SettingsError  a setting is missing or has a value that is not allowed
    │   └── WrongUsage     the command line was used wrongly (exit status 2)
    ├── Unauthenticated    who are you?
    ├── Forbidden          we know you, and no
    ├── NotFound
    ├── Conflict           it is there already, or somebody was faster
    ├── ClaimLost          a task's claim went to somebody else: stop, write nothing
    └── ItemFailed         one item of a source is no document: recorded, the sync goes on

The message is a sentence with the identity of the thing and no secrets. ``code`` is kebab case, stable,
listed in ``docs/reference/errors.md`` and held there by a test.
"""

from __future__ import annotations

from typing import ClassVar


class SerchaError(Exception):
    """Base of all errors raised on purpose."""

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = code or type(self).code


class Transient(SerchaError):
    """Try again later."""

    code = "transient"

    def __init__(
        self, message: str, *, code: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.retry_after = retry_after


class Unavailable(Transient):
    """A server that Sercha needs is away."""

    code = "unavailable"


class Rejected(SerchaError):
    """The input is wrong; a retry cannot help."""

    code = "bad-request"


class SettingsError(Rejected):
    """A setting is missing or not allowed; the message names the variable."""

    code = "bad-setting"


class WrongUsage(Rejected):
    """The command line was used wrongly."""

    code = "wrong-usage"


class Unauthenticated(SerchaError):
    """No valid credentials were given."""

    code = "unauthenticated"


class Forbidden(SerchaError):
    """The caller is known and not allowed."""

    code = "forbidden"


class NotFound(SerchaError):
    """There is no such thing, or the caller may not know of it."""

    code = "not-found"


class Conflict(SerchaError):
    """It exists already, or somebody changed it meanwhile."""

    code = "conflict"


class ClaimLost(SerchaError):
    """The task's claim is no longer ours: whatever was being written is rolled back."""

    code = "claim-lost"


class ItemFailed(SerchaError):
    """One item of a source cannot become a document; the sync records it and goes on."""

    code = "unreadable"

    def __init__(self, message: str, *, code: str | None = None, is_skip: bool = False) -> None:
        super().__init__(message, code=code)
        self.is_skip = is_skip
