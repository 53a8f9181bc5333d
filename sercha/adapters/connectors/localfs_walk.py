"""Walks folders in the bytewise order of the files' ids, page by page; blocking, to be run in a thread.

A folder's entries are sorted by encoded name, folders as if their name ended in a slash. Then walking depth
first meets the whole ids in bytewise order, so a page covers one range of ids and a walk can go on behind any
id without a look at the folders before it.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sercha.adapters.connectors.localfs_config import is_within
from sercha.adapters.connectors.localfs_open import (
    PLACEHOLDER,
    Identity,
    Place,
    WithinOwnData,
    is_placeholder,
    mac_hint,
    open_place,
    read_failure,
    status_of,
    too_large,
)
from sercha.adapters.connectors.localfs_rules import (
    CACHE_TAG,
    CACHE_TAG_SIGNATURE,
    TOOLS,
    VENV_MARK,
    LeaveOut,
)
from sercha.adapters.connectors.path_encoding import encode_name, encode_path
from sercha.domain.source import IssueKind, ItemIssue
from sercha.errors import Transient
from sercha.services.ports import Item, ItemPage

EXTERNAL_ID_BYTES_MAX = 2_000
"""Longer ids do not fit into an index of PostgreSQL."""
FILE_BYTES_MAX = 16 * 1024 * 1024
SETTLE_SECONDS = 2.0
"""A file changed less than this before it was listed could change again unseen: clocks of file systems tick."""


@dataclass(frozen=True, slots=True)
class WalkRules:
    """What a walk takes and how it judges it."""

    leave_out: LeaveOut
    own_data: Identity | None = None
    file_bytes_max: int = FILE_BYTES_MAX
    settle_seconds: float = SETTLE_SECONDS
    now_ns: Callable[[], int] = time.time_ns
    on_left_out: Callable[[str], None] = lambda _: None
    """Told the reason of each file and folder that is left out silently."""


@dataclass(frozen=True, slots=True)
class Root:
    """A path of the source as it was when the walk began."""

    place: Place
    identity: Identity
    is_folder: bool

    @property
    def key(self) -> str:
        """The id of the file, or what the ids below the folder begin with."""
        path = encode_path(self.place.path)
        return path.rstrip("/") + "/" if self.is_folder else path

    @classmethod
    def find(cls, place: Place, *, was_mounted: bool) -> Root:
        """Look at a path of the source.

        Raises:
            Transient: it is missing or cannot be read, or it is the empty folder of an unmounted drive.
        """
        try:
            status = status_of(place)
            is_folder = stat.S_ISDIR(status.st_mode)
            if is_folder and was_mounted and not os.path.ismount(place.path):
                with os.scandir(place.path) as entries:
                    if next(entries, None) is None:
                        raise away(place, "the drive is not mounted")
        except OSError as error:
            reason = f"{error.strerror or 'error'}{mac_hint(error)}"
            raise away(place, reason) from error
        return cls(place, Identity.of(status), is_folder)


@dataclass(frozen=True, slots=True)
class _Folder:
    place: Place
    key: str
    """The folder's id with a slash at the end: what all ids below begin with."""
    path: tuple[str, ...]
    """Encoded names below the root."""

    @property
    def is_root(self) -> bool:
        return not self.path


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A folder that could not be read."""

    issue: ItemIssue


class _OnlyInCloud(Exception):
    """Listing the folder would fetch it."""


_Found = Item | ItemIssue | _Unknown


class Walk:
    """A walk over some roots behind the id *after*; `next_page` until a page has no cursor."""

    def __init__(self, roots: Sequence[Root], rules: WalkRules, after: str | None) -> None:
        self._roots = sorted(roots, key=lambda root: root.key.encode())
        self._rules = rules
        self._after = after
        self._found = self._walk("" if after is None else after)
        self._unknown: str | None = None
        self.steps = 0
        """How many folders and entries were looked at; from another thread, it tells a slow walk from one that hangs."""

    def next_page(self, items_max: int) -> ItemPage:
        """Return up to *items_max* items and issues.

        Raises:
            Transient: a root went away; what the page would have said is not to be trusted.
        """
        items: list[Item] = []
        issues: list[ItemIssue] = []
        # A page may end within the ids of an unreadable folder; the next page begins there.
        unknown = [self._unknown] if self._unknown else []
        self._unknown = None
        through: str | None = None
        for found in self._found:
            if isinstance(found, Item):
                items.append(found)
                through = found.external_id
            else:
                issue = found.issue if isinstance(found, _Unknown) else found
                if self._after is None or issue.external_id.encode() > self._after.encode():
                    issues.append(issue)
                    through = issue.external_id
                if isinstance(found, _Unknown):
                    unknown.append(issue.external_id)
            if through is not None and len(items) + len(issues) >= items_max:
                self._unknown = unknown[-1] if unknown and unknown[-1] == through else None
                break
        else:
            through = None
        self._require_roots()
        cursor = None if through is None else json.dumps({"after": through})
        page = ItemPage(tuple(items), self._after, through, cursor, tuple(issues), tuple(unknown))
        self._after = through
        return page

    def _walk(self, after: str) -> Iterator[_Found]:
        behind = after.encode()
        for root in self._roots:
            if not root.is_folder:
                if root.key.encode() > behind:
                    status = self._status_of_root(root)
                    found = self._judge(root.key, root.place.path, status)
                    if found is not None:
                        yield found
            elif _may_hold(root.key, behind):
                yield from self._walk_folder(_Folder(root.place, root.key, ()), behind)

    def _walk_folder(self, top: _Folder, behind: bytes) -> Iterator[_Found]:
        stack: list[Iterator[_Folder | _Found]] = [iter((top,))]
        while stack:
            entry = next(stack[-1], None)
            if entry is None:
                stack.pop()
            elif not isinstance(entry, _Folder):
                yield entry
            else:
                try:
                    stack.append(iter(self._scan(entry, behind)))
                except _OnlyInCloud:
                    if entry.is_root:
                        raise away(entry.place, "its content is in a cloud") from None
                    yield _Unknown(_placeholder(entry.key))
                except OSError as error:
                    reason = self._unreadable(entry, error)
                    if reason is not None:
                        yield _Unknown(_issue(entry.key, IssueKind.FAILED, "unreadable", reason))

    def _unreadable(self, folder: _Folder, error: OSError) -> str | None:
        """Say why a folder could not be listed; None: it went away meanwhile, which is no error."""
        if folder.is_root:
            raise away(folder.place, f"{error.strerror or 'error'}{mac_hint(error)}") from error
        failure = read_failure(error)
        if isinstance(failure, Transient):
            raise failure from error
        if failure.error_code == "unreadable":
            return f"The folder cannot be listed ({error.strerror}{mac_hint(error)})."
        return None

    def _scan(self, folder: _Folder, behind: bytes) -> list[_Folder | _Found]:
        """List one folder in order, judging the files."""
        self.steps += 1
        try:
            descriptor = open_place(folder.place, own_data=self._rules.own_data, folder=True)
        except WithinOwnData:
            return []
        found: list[tuple[bytes, _Folder | _Found]] = []
        too_long = 0
        try:
            if is_placeholder(os.fstat(descriptor)):
                raise _OnlyInCloud
            listed: list[tuple[bytes, os.DirEntry[str]]] = []
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    self.steps += 1
                    listed.append((os.fsencode(entry.name), entry))
            if not folder.is_root and _is_made_by_tools(descriptor, {name for name, _ in listed}):
                self._rules.on_left_out(TOOLS)
                return []
            for name, entry in listed:
                self.steps += 1
                is_folder = entry.is_dir(follow_symlinks=False)
                text = encode_name(name)
                key = folder.key + text + ("/" if is_folder else "")
                key_bytes = key.encode()
                if not (_may_hold(key, behind) if is_folder else key_bytes > behind):
                    continue
                path = (*folder.path, text)
                reason = self._rules.leave_out.reason(name, path, is_folder=is_folder)
                if reason is not None:
                    self._rules.on_left_out(reason)
                    continue
                if len(key_bytes) > EXTERNAL_ID_BYTES_MAX:
                    too_long += 1
                elif is_folder:
                    found.append((key_bytes, _Folder(folder.place.child(name), key, path)))
                else:
                    judged = self._judge_entry(key, folder.place.child(name), entry)
                    if judged is not None:
                        found.append((key_bytes, judged))
        finally:
            os.close(descriptor)
        found.sort(key=lambda pair: pair[0])
        entries_in_order = [entry for _, entry in found]
        if too_long:
            reason = f"{too_long} entries are left out: their paths are over {EXTERNAL_ID_BYTES_MAX} bytes."
            entries_in_order.insert(
                0, _issue(folder.key, IssueKind.SKIPPED, "path-too-long", reason)
            )
        return entries_in_order

    def _judge_entry(
        self, key: str, place: Place, entry: os.DirEntry[str]
    ) -> Item | ItemIssue | None:
        try:
            status = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return None
        return self._judge(key, place.path, status)

    def _judge(self, key: str, path: bytes, status: os.stat_result) -> Item | ItemIssue | None:
        """Make an item of a regular file, and of everything else an issue; None: leave it out silently."""
        if stat.S_ISLNK(status.st_mode):
            return self._judge_link(key, path, status)
        fingerprint = _fingerprint(status)
        if not stat.S_ISREG(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "not a regular file")
            return _issue(key, IssueKind.SKIPPED, "not-a-file", f"It is {kind}.", fingerprint)
        if is_placeholder(status):
            # Failed, not skipped: a document that was read before stays, although its file was sent away.
            return _placeholder(key, fingerprint)
        if status.st_size > self._rules.file_bytes_max:
            reason = too_large(status.st_size, self._rules.file_bytes_max)
            return _issue(key, IssueKind.SKIPPED, "too-large", reason, fingerprint)
        now_ns = self._rules.now_ns()
        if self._is_fresh(status, now_ns):
            # With the time of the listing in it, it is like no other, so the file is read again next time.
            fingerprint += f":fresh-{now_ns}"
        return Item(key, key, fingerprint, status.st_size, _moment(status.st_mtime_ns))

    def _judge_link(self, key: str, path: bytes, status: os.stat_result) -> ItemIssue | None:
        fingerprint = _fingerprint(status)
        try:
            target = os.path.realpath(path, strict=True)
        except OSError as error:
            reason = f"The link leads nowhere ({error.strerror})."
            return _issue(key, IssueKind.SKIPPED, "broken-link", reason, fingerprint)
        if any(is_within(target, root.place.path) for root in self._roots):
            return None
        reason = "The link leads out of the source's folders."
        return _issue(key, IssueKind.SKIPPED, "link-outside", reason, fingerprint)

    def _is_fresh(self, status: os.stat_result, now_ns: int) -> bool:
        settle_ns = int(self._rules.settle_seconds * 1e9)
        if not settle_ns:
            return False
        # The time of change cannot be set by hand; one in the future means that a clock is wrong.
        return status.st_ctime_ns > now_ns - settle_ns or (
            abs(status.st_mtime_ns - now_ns) < settle_ns
        )

    def _status_of_root(self, root: Root) -> os.stat_result:
        try:
            return status_of(root.place)
        except OSError as error:
            raise away(root.place, error.strerror or "error") from error

    def _require_roots(self) -> None:
        for root in self._roots:
            self.steps += 1
            # Files are often replaced by new ones under the same name; a folder replaced is another one.
            if Identity.of(self._status_of_root(root)) != root.identity and root.is_folder:
                raise away(root.place, "it was replaced or unmounted meanwhile")


_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def away(place: Place, reason: str) -> Transient:
    """The error for a source whose folder is not there: nothing is known, so nothing is deleted."""
    return Transient(
        f"{encode_path(place.path)} is away ({reason}); its documents stay as they are",
        code="source-away",
    )


def _may_hold(key: str, behind: bytes) -> bool:
    """Whether a folder can hold ids behind *behind*; *key* ends in a slash."""
    prefix = key.encode()
    return prefix > behind or behind.startswith(prefix)


def _is_made_by_tools(descriptor: int, names: set[bytes]) -> bool:
    if VENV_MARK in names:
        return True
    if CACHE_TAG not in names:
        return False
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with open(os.open(CACHE_TAG, flags, dir_fd=descriptor), "rb") as tag:
            return tag.read(len(CACHE_TAG_SIGNATURE)) == CACHE_TAG_SIGNATURE
    except OSError:
        return False


def _fingerprint(status: os.stat_result) -> str:
    return f"{status.st_mtime_ns}:{status.st_ctime_ns}:{status.st_size}:{status.st_ino}"


def _moment(time_ns: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def _placeholder(external_id: str, fingerprint: str | None = None) -> ItemIssue:
    return _issue(external_id, IssueKind.FAILED, "placeholder", PLACEHOLDER, fingerprint)


def _issue(
    external_id: str, kind: IssueKind, code: str, reason: str, fingerprint: str | None = None
) -> ItemIssue:
    return ItemIssue(external_id, kind, code, reason, fingerprint)
