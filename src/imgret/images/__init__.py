"""Reading images from files, bytes and objects; resizing, cropping and encoding them."""

import imgret.images.opencv  # noqa: F401  # first: it checks the package
from imgret.files import only_below
from imgret.images.alignment import SKETCH_SIDE, Sketch, is_copy, mirrored, sketch
from imgret.images.decoding import MAX_PIXELS, Decoded, decode
from imgret.images.exif import exif_facts
from imgret.images.hashing import hash_array, perceptual_hash, turned_hashes
from imgret.images.headers import Header, header
from imgret.images.isolation import isolated
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
    sharpness,
    thumbnail,
    tint,
    to_gray,
)

__all__ = [
    "MAX_PIXELS",
    "SKETCH_SIDE",
    "Decoded",
    "Header",
    "Sketch",
    "blur",
    "connected",
    "decode",
    "draw_box",
    "encode",
    "exif_facts",
    "hash_array",
    "header",
    "is_copy",
    "isolated",
    "letterbox",
    "load",
    "mirrored",
    "only_below",
    "perceptual_hash",
    "read",
    "reads_raw",
    "resample",
    "resize",
    "resize_center_crop",
    "sharpness",
    "sketch",
    "thumbnail",
    "tint",
    "to_gray",
    "turned_hashes",
]
