"""Index a folder of images, save the gallery, and search it with one of the images.

python examples/quickstart.py photos
"""

import sys
from pathlib import Path

from imgret import Retriever


def main(folder: Path) -> None:
    """Create FOLDER.imgret next to the folder."""
    retriever = Retriever()
    report = retriever.add_folder(folder, labels="parent")
    print(report)

    path = folder.with_name(f"{folder.name}.imgret")
    retriever.save(path)
    print(f"saved {path}: {len(retriever)} images")

    # An image of the gallery finds itself first, then the images most similar to it.
    query = retriever[next(iter(retriever))].path
    hits = retriever.search(query, k=5)
    print(f"query: {query}")
    for hit in hits:
        print(f"{hit.rank}. {hit.score:.3f}  {hit.label or ''}  {hit.key}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python quickstart.py FOLDER")
    main(Path(sys.argv[1]))
