"""Decodes mutants; the first number and the one after the last are arguments."""

import hashlib
import sys
import time
import warnings

import numpy as np
from mutants import mutant, seeds

from imgret import images
from imgret.errors import ImageError, MissingExtraError

warnings.simplefilter("ignore")
originals = seeds()
for number in range(*map(int, sys.argv[1:])):
    name, data = mutant(number, originals)
    print("begin", number, name, flush=True)
    began = time.process_time()
    try:
        images.exif_facts(data)
        decoded = images.decode(data, max_pixels=2_000_000, min_side=number % 3 * 16 or None)
        image = decoded.image
        assert image.dtype == np.uint8, image.dtype
        assert image.ndim == 3, image.shape
        assert image.shape[2] == 3, image.shape
        assert image.shape[0] * image.shape[1] <= 2_000_000, image.shape
        outcome = hashlib.sha256(image.tobytes()).hexdigest()[:8]
    except (ImageError, MissingExtraError) as error:  # some mutants are called RAW photographs
        outcome = type(error).__name__ if len(str(error)) < 1000 else f"raw: long message {error}"
    except BaseException as error:  # noqa: BLE001  # the fault that is looked for
        outcome = f"raw {type(error).__name__}: {error}"
    print("end", f"{time.process_time() - began:.3f}", outcome, flush=True)
