"""A real browser, for pages opened from a file and for pages that are served."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
HOW = "pip install --group browser"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, by Playwright; it downloads none of its own."""
    api = pytest.importorskip("playwright.sync_api", reason=f"needs Playwright: {HOW}")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("needs Chromium, on Debian: apt-get install chromium")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(QUIET))
        yield started
        started.close()


@pytest.fixture
def new_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open pages with the options of a browser context; no page may report an error."""
    contexts, errors = [], []

    def note(message: Any) -> None:
        if message.type in {"error", "warning"}:
            errors.append(message.text)

    def build(**options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield build
    for context in contexts:
        context.close()
    assert errors == []


@pytest.fixture
def page(new_page: Callable[..., Any]) -> Any:
    """A page of 1280 x 800 pixels."""
    return new_page(viewport={"width": 1280, "height": 800})


@pytest.fixture(scope="session")
def barriers() -> Callable[[Any], list[str]]:
    """List what axe finds on a page that keeps people out: each rule, and the elements."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason=f"needs axe: {HOW}")

    def check(page: Any) -> list[str]:
        found = axe.Axe().run(page).response["violations"]
        return [
            f"{rule['id']}: {rule['help']}: {[node['html'] for node in rule['nodes']]}"
            for rule in found
        ]

    return check
