"""Everything that is looked at: HTML pages in one file, fragments for notebooks, plots as SVG.

============= ==========================================================================
module        what it draws
============= ==========================================================================
`document`    whole pages, notebook fragments, tables, inlined images
`hits`        queries with their hits, as rows of images
`evaluation`  an evaluation: metrics, classes, worst queries
`crops`       what cropping does: figures, the crops that cost most
`map`         a gallery as points in the plane
`training`    a training: curves, metrics, worst classes
`plot`        line plots
============= ==========================================================================

``page.css`` is the one style sheet; ``sort.js`` and ``map.js`` are the scripts. A page refers to
nothing outside itself.
"""
