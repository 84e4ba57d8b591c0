"""Take the screenshot of `imgret serve` in the docs, ``docs/images/serve.jpg``.

    pip install '.[serve]' playwright       # and a Chromium of the system
    python tools/shoot_serve.py

The gallery is drawn by `imgret.demo`, and the query is not in it.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from imgret import Retriever
from imgret.demo import samples
from imgret.images import encode

_PAGE = Path(__file__).parents[1] / "docs" / "images" / "serve.jpg"
_SIZE = {"width": 1180, "height": 740}


def wait(url: str) -> None:
    """Wait until the server answers."""
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{url}healthz").close()  # noqa: S310  # our own
        except urllib.error.URLError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"{url}: no answer")


def main() -> None:
    """Serve drawn flowers, search with one, and keep what the page shows."""
    with tempfile.TemporaryDirectory() as name, socket.socket() as free:
        folder = Path(name)
        samples.write_gallery(folder / "flowers", per_species=24)
        with Retriever.open(folder / "flowers.imgret", "a") as retriever:
            retriever.add_folder(folder / "flowers", labels="parent")
        query = folder / "query.jpg"
        query.write_bytes(encode(samples.draw("sunflower", 1003), "jpeg"))
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "imgret", "serve", str(folder / "flowers.imgret")]
        server = subprocess.Popen([*command, "--port", str(port)])  # noqa: S603  # ours
        try:
            url = f"http://127.0.0.1:{port}/"
            wait(url)
            with sync_playwright() as play:
                chromium = shutil.which("chromium") or shutil.which("google-chrome")
                browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
                page = browser.new_page(viewport=_SIZE)
                page.goto(url)
                page.set_input_files("#file", query)
                page.wait_for_selector("#shown img")
                page.wait_for_load_state("networkidle")
                page.wait_for_timeout(1000)
                page.screenshot(path=folder / "page.png")
                browser.close()
            with Image.open(folder / "page.png") as shot:
                shot.convert("RGB").save(_PAGE, quality=84, optimize=True)
        finally:
            server.terminate()
            server.wait()
    print(_PAGE, _PAGE.stat().st_size)


if __name__ == "__main__":
    main()
