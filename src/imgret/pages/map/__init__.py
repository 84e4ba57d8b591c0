"""The page of a map: points and small images on a canvas, with a search box and a lasso."""

from imgret.pages.map.build import page
from imgret.pages.map.points import sketch

__all__ = ["page", "sketch"]
