"""The embedded search engine: Tantivy inside the process, a copy that follows the change feed."""

from sercha.adapters.embedded_index.index import EmbeddedIndex, open_embedded_index
from sercha.adapters.embedded_index.local_copy import CopyStatistics

__all__ = ["CopyStatistics", "EmbeddedIndex", "open_embedded_index"]
