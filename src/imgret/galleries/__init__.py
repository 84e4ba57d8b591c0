"""Galleries, which store items and their embeddings."""
