"""HTML pages in one file, fragments for notebooks, and plots as SVG.

============= ==========================================================================
module        what it draws
============= ==========================================================================
`document`    whole pages, notebook fragments, tables, inlined images
`hits`        queries with their hits beside them
`curation`    duplicates, outliers, wrong labels and clusters, by their images
`evaluation`  an evaluation: metrics, curves, confusions, classes, worst queries
`comparison`  two evaluations of the same queries
`review`      duplicates, to choose which ones to keep
`crops`       the effect of cropping: figures, the crops that cost most
`map`         a gallery as points in the plane
`plot`        line plots
`result`      the base class of results that can be shown
============= ==========================================================================

``page.css`` is the style sheet of all pages; ``sort.js``, ``map.js`` and ``review.js`` are the
scripts. A page loads nothing from outside its file. ``serve/`` holds the page of `imgret.serve`,
which the server sends as it is.
"""
