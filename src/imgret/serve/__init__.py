"""A web page and a JSON API for a gallery; extra ``imgret[serve]``.

============= ================================================================================
module        contents
============= ================================================================================
`app`         the application: its other routes, errors
`search`      the routes that search with an image, words or items
`parameters`  parameters that several routes have
`answers`     the JSON that it answers with
`guard`       what a request must fulfil: host, origin, token, size; headers of every answer
`site`        the gallery that is served, also while it is replaced or built from a folder
`work`        threads: how many requests at once, which of them together, for how long
`batching`    an embedder that runs the images of concurrent requests together
`thumbnails`  small images, made once
`metrics`     counts and times, for Prometheus
`http`        a limit on headers
`run`         the server
============= ================================================================================
"""

from imgret.serve.app import create_app
from imgret.serve.guard import Limits
from imgret.serve.run import run
from imgret.serve.site import Site

__all__ = ["Limits", "Site", "create_app", "run"]
