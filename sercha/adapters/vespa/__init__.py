"""Vespa as a search engine, over its HTTP interfaces."""

from sercha.adapters.vespa.index import VespaIndex, open_vespa_index

__all__ = ["VespaIndex", "open_vespa_index"]
