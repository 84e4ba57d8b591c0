"""Linear projections from the stored embedding to the indexed vector.

A gallery stores the full embedding, so a projection can be fitted again at any time
without reading an image.
"""

from imgret.projections.lda import Discriminant
from imgret.projections.linear import IdentityProjection, LinearProjection, Projection
from imgret.projections.pca import fit_pca

__all__ = ["Discriminant", "IdentityProjection", "LinearProjection", "Projection", "fit_pca"]
