"""Images to embeddings: for searches, evaluation, ingest and serving alike."""
