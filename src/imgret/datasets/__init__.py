"""Public data sets, read from the files that their makers publish.

>>> from imgret.datasets import flowers102
>>> data = flowers102("flowers", download=True)                       # doctest: +SKIP
>>> retriever.add(data.train.paths, labels=data.train.labels)         # doctest: +SKIP
>>> retriever.evaluate(data.test.paths, data.test.labels)             # doctest: +SKIP

Nothing is downloaded unless ``download=True`` is given.
"""

from imgret.datasets.flowers import Flowers102, LabeledImages, flowers102

__all__ = ["Flowers102", "LabeledImages", "flowers102"]
