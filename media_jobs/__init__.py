"""Documents to searchable vectors: media items, the jobs that embed them, and search. May import embeddings."""
