"""Sercha: self-hosted team search that stays up.

Embedding::

    async with trio.open_nursery() as nursery:
        drain = trio.Event()
        await nursery.start(partial(sercha.run_worker, settings, drain=drain))
        ...
        drain.set()          # finish or give back, then return

Nothing here calls ``trio.run``, touches signals, configures logging or exits the process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sercha.version import __version__

if TYPE_CHECKING:
    from sercha.domain.ids import new_id
    from sercha.domain.task import NewTask
    from sercha.embed import open_queue, run_api, run_worker
    from sercha.services.attempt import Attempt, Interrupted
    from sercha.settings import Settings, load_settings

__all__ = [
    "Attempt",
    "Interrupted",
    "NewTask",
    "Settings",
    "__version__",
    "load_settings",
    "new_id",
    "open_queue",
    "run_api",
    "run_worker",
]

_ROOMS = {
    "Attempt": "sercha.services.attempt",
    "Interrupted": "sercha.services.attempt",
    "NewTask": "sercha.domain.task",
    "Settings": "sercha.settings",
    "load_settings": "sercha.settings",
    "new_id": "sercha.domain.ids",
    "open_queue": "sercha.embed",
    "run_api": "sercha.embed",
    "run_worker": "sercha.embed",
}


def __getattr__(name: str) -> object:
    """Import the public names when they are first used: ``import sercha`` alone stays light."""
    if name not in _ROOMS:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(_ROOMS[name]), name)
