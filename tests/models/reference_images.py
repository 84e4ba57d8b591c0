"""Twenty photos that travel in test dependencies, whole and in parts."""

import numpy as np
import skimage.data
import sklearn.datasets

_NAMES = ("astronaut", "chelsea", "coffee", "rocket", "motorcycle")


def reference_images():
    """uint8 RGB by name, of many sizes and shapes."""
    china, flower = sklearn.datasets.load_sample_images().images
    photos = {
        "astronaut": skimage.data.astronaut(),
        "chelsea": skimage.data.chelsea(),
        "coffee": skimage.data.coffee(),
        "rocket": skimage.data.rocket(),
        "motorcycle": skimage.data.stereo_motorcycle()[0],
        "hubble": skimage.data.hubble_deep_field(),
        "retina": skimage.data.retina(),
        "ihc": skimage.data.immunohistochemistry(),
        "china": china,
        "flower": flower,
    }
    found = dict(photos)
    for name, image in photos.items():  # a part of each, wide or high, or smaller than the input
        height, width = image.shape[:2]
        if len(name) % 3 == 0:
            found[f"{name}, wide"] = image[height // 3 : height // 2, :]
        elif len(name) % 3 == 1:
            found[f"{name}, high"] = image[:, width // 3 : width // 2]
        else:
            found[f"{name}, small"] = image[10:51, 10:47]
    return {name: np.ascontiguousarray(image) for name, image in found.items()}
