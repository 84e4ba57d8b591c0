"""A flipped bit anywhere in a gallery never changes an answer in silence."""

from __future__ import annotations

import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from imgret import Retriever
from imgret.errors import ImgretError
from imgret.galleries.local.check import check_directory
from imgret.testing.data import CountingEmbedder if False else None
