"""Corpora: very many documents, embedded from file to file in shards, and loaded into the store afterwards."""
