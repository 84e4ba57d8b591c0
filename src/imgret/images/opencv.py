"""OpenCV, checked when it is first imported."""

from imgret.support.overlaid import one_owner

with one_owner("cv2", package="opencv-python-headless"):
    import cv2  # noqa: F401
