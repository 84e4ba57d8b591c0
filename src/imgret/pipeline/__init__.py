"""The way from images to embeddings, shared by search, evaluation, ingest and serving."""
