"""Where items live."""
