"""Internal helpers that several packages share."""
