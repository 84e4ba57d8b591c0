"""Reading images from files, bytes and objects; resizing, cropping and encoding them."""

from imgret.images.decoding import MAX_PIXELS, Decoded, decode
from imgret.images.exif import exif_facts
from imgret.images.headers import Header, header
from imgret.images.loading import load, read
from imgret.images.raw import reads_raw
from imgret.images.transform import (
    blur,
    connected,
    draw_box,
    encode,
    letterbox,
    resample,
    resize,
    resize_center_crop,
    thumbnail,
    tint,
    to_gray,
)

__all__ = [
    "MAX_PIXELS",
    "Decoded",
    "Header",
    "blur",
    "connected",
    "decode",
    "draw_box",
    "encode",
    "exif_facts",
    "header",
    "letterbox",
    "load",
    "read",
    "reads_raw",
    "resample",
    "resize",
    "resize_center_crop",
    "thumbnail",
    "tint",
    "to_gray",
]
