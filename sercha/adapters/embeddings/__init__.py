"""Endpoints that make vectors of texts."""

from sercha.adapters.embeddings.openai import OpenAIEmbedder, open_embedder

__all__ = ["OpenAIEmbedder", "open_embedder"]
