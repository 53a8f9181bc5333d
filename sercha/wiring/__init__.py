"""Settings to adapters to services: the only place that knows them all.

Each function that opens something is an async context manager, so the order of blocks is the order of
dependence, and leaving them in reverse is the order of shutdown.
"""

from sercha.wiring.embedding import open_embedding, open_process_embedders
from sercha.wiring.parsing import open_extractor
from sercha.wiring.process import (
    Process,
    open_leases,
    open_process,
    open_task_queue,
    warn_of_missing_roots,
)
from sercha.wiring.roles import (
    make_accounts,
    make_api_services,
    make_probes,
    make_registrar,
    make_scheduler,
    make_sources,
    make_task_admin,
    make_worker,
)
from sercha.wiring.search import OpenSearch, open_feeder, open_search

__all__ = [
    "OpenSearch",
    "Process",
    "make_accounts",
    "make_api_services",
    "make_probes",
    "make_registrar",
    "make_scheduler",
    "make_sources",
    "make_task_admin",
    "make_worker",
    "open_embedding",
    "open_extractor",
    "open_feeder",
    "open_leases",
    "open_process",
    "open_process_embedders",
    "open_search",
    "open_task_queue",
    "warn_of_missing_roots",
]
