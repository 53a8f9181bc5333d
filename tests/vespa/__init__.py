"""A stand-in for Vespa 8: it speaks its HTTP interfaces, and refuses what a real one refuses.

Its ranking is simple, and no evidence about Vespa's.
"""

from tests.vespa.faults import Fault
from tests.vespa.server import Vespa, open_vespa
from tests.vespa.state import Limits
from tests.vespa.store import Store

__all__ = ["Fault", "Limits", "Store", "Vespa", "open_vespa"]
