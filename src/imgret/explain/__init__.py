"""Explanations of a match: the places of two images that make them similar.

===================== ===========================================================================
`explain_match`       heat maps of a query and a hit, and the regions that correspond
`Explanation`         the result, with its page
===================== ===========================================================================
"""

from imgret.explain.explanation import Explanation, HeatMap, Region
from imgret.explain.match import explain_match

__all__ = ["Explanation", "HeatMap", "Region", "explain_match"]
