"""The embeddings API: api (HTTP) -> access (who may) -> services (what is done)."""
