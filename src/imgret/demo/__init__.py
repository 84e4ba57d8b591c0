"""Drawn flowers: a sample gallery to try imgret without images of your own."""

import imgret.images  # noqa: F401  # first: it checks OpenCV
