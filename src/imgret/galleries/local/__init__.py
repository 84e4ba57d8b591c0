"""Galleries in a directory or in memory."""
