"""Faults that tests switch on, by path, method and container, for a number of requests or by chance."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from tests.vespa.model import DEGRADED_FLAGS, Degradation

REQUEST_KINDS = frozenset(
    {
        "overload",  # 429 with one of three texts
        "unavailable",  # 503 without a body
        "internal",  # 500
        "timeout",  # 504 after `delay`
        "full",  # 507 for what a full cluster refuses
        "reset-before",  # the connection is reset, nothing was done
        "reset-after",  # the same after the operation was done
        "truncate",  # the answer is cut after `size` bytes
        "slow",  # the first byte waits for `delay`
        "goaway-before",  # HTTP/2: GOAWAY that leaves this request out, nothing was done
        "goaway-during",  # HTTP/2: GOAWAY that includes this request, then the answer
        "goaway-after",  # HTTP/2: the answer, then GOAWAY
    }
)
"""Kinds that act on any request."""
STATE_KINDS = frozenset(
    {
        "degraded",  # searches: the flags in `flags`, the percentage in `coverage`
        "errors",  # searches: entries in `root.errors` beside the hits
        "nodes-lost",  # searches: the distribution keys in `nodes` do not answer
        "not-activated",  # deployments: 200 with "activated": false
        "slow-convergence",  # services have the new generation `delay` seconds later
        "failed-service",  # a service of serviceconverge has failed to take the new generation
        "out-of-rotation",  # 404 from /status.html
        "initializing",  # /state/v1/health says so, with 200
        "stop-early",  # visits, also by DELETE, PUT and POST: stop after `size` buckets
    }
)
"""Kinds that the part of the server they concern asks for."""
OVERLOADS = ("operations", "age", "bytes")
"""The values of `variant` of an overload."""


@dataclass(slots=True)
class Fault:
    """One fault; *path* is a regular expression that is searched in the raw path.

    It acts on *count* requests (None: on all), after *skip* others that match, each with *probability*.
    """

    kind: str
    path: str = ""
    method: str | None = None
    container: int | None = None
    """Only requests to this container; None for all ports."""
    count: int | None = None
    skip: int = 0
    probability: float = 1.0
    seed: int = 0
    delay: float = 0.0
    size: int = 0
    variant: str = ""
    message: str = ""
    is_clean: bool = False
    """truncate: end the answer as if it were whole, instead of a reset."""
    is_false_full: bool = False
    """nodes-lost: report coverage 100."""
    coverage: int | None = None
    flags: frozenset[str] = frozenset()
    nodes: frozenset[int] = frozenset()
    errors: tuple[tuple[int, str], ...] = ()
    hits: int = field(default=0, init=False)
    """Requests it has acted on."""
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in REQUEST_KINDS | STATE_KINDS:
            raise ValueError(f"no fault is called '{self.kind}'")
        if not self.flags <= set(DEGRADED_FLAGS):
            raise ValueError(f"flags are {DEGRADED_FLAGS}")
        if self.kind == "overload" and self.variant not in ("", *OVERLOADS):
            raise ValueError(f"variants of an overload are {OVERLOADS}")
        re.compile(self.path)
        self._random = random.Random(self.seed)

    def acts(self, method: str, path: str, container: int | None) -> bool:
        """Whether it acts on this request; that counts."""
        if self.method not in (None, method) or re.search(self.path, path) is None:
            return False
        if self.container is not None and self.container != container:
            return False
        if self.count is not None and self.hits >= self.count:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.probability < 1 and self._random.random() >= self.probability:
            return False
        self.hits += 1
        return True


def fault_from(values: Mapping[str, Any]) -> Fault:
    """Make a fault of a JSON object.

    Raises:
        ValueError: it does not describe one.
    """
    known = {each.name for each in fields(Fault) if each.init}
    if not set(values) <= known:
        raise ValueError(f"a fault has no {sorted(set(values) - known)}")
    given = dict(values)
    for name in ("flags", "nodes"):
        if name in given:
            given[name] = frozenset(given[name])
    if "errors" in given:
        given["errors"] = tuple((int(code), str(text)) for code, text in given["errors"])
    try:
        return Fault(**given)
    except (TypeError, re.error) as error:
        raise ValueError(str(error)) from error


class Faults:
    """The faults that are switched on."""

    def __init__(self) -> None:
        self._all: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Switch a fault on."""
        self._all.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Switch it off; nothing happens when it is off."""
        self._all = [each for each in self._all if each is not fault]

    def clear(self) -> None:
        """Switch all off."""
        self._all.clear()

    def __iter__(self) -> Iterator[Fault]:
        return iter(list(self._all))

    def take(
        self, kinds: Iterable[str], method: str, path: str, container: int | None = None
    ) -> Fault | None:
        """The first fault of these kinds that acts on a request."""
        wanted = frozenset(kinds)
        for fault in self._all:
            if fault.kind in wanted and fault.acts(method, path, container):
                return fault
        return None

    def find(self, kind: str) -> Fault | None:
        """The first fault of a kind that is not used up; this does not count."""
        for fault in self._all:
            if fault.kind == kind and (fault.count is None or fault.hits < fault.count):
                return fault
        return None

    def degradation(
        self, method: str = "GET", path: str = "/search/", container: int | None = None
    ) -> Degradation:
        """What is wrong with the search that is answered now; each fault that acts on it counts."""
        degraded = self.take({"degraded"}, method, path, container)
        failed = self.take({"errors"}, method, path, container)
        lost = self.take({"nodes-lost"}, method, path, container)
        return Degradation(
            flags=degraded.flags if degraded else frozenset(),
            coverage=degraded.coverage if degraded else None,
            lost_nodes=lost.nodes if lost else frozenset(),
            reports_full=lost.is_false_full if lost else False,
            errors=failed.errors if failed else (),
        )
