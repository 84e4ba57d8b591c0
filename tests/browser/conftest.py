"""A browser for the pages: Debian's Chromium, driven by Playwright."""

import os
import re
import shutil
from pathlib import Path

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# Nothing but the page may be loaded, also by the browser itself.
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
DESKTOP = {"viewport": {"width": 1280, "height": 860}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
VIOLATIONS = """async (options) => (
    await axe.run({resultTypes: ["violations"], ...options})).violations.map(
    (each) => `${each.id}: ${each.help}: ${each.nodes.map((node) => node.html).join(" | ")}`
)"""


# Not of the session, as other tests in the process cannot run an event loop of their own meanwhile.
@pytest.fixture(scope="module")
def browser():
    """Chromium, started once a file; each page has a profile of its own."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install playwright"
    )
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=program, args=OPTIONS)
        yield started
        started.close()


@pytest.fixture
def open_page(browser):
    """Open pages, each in a profile of its own, and check that none complained on its console."""
    contexts, complaints, expected = [], [], []

    def build(*, phone=False, expect=(), **options):
        kind = PHONE if phone else DESKTOP
        context = browser.new_context(**{**kind, **options})
        context.set_default_timeout(20_000)
        contexts.append(context)
        expected.extend(expect)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(error.stack))
        page.on(
            "console",
            lambda message: (
                complaints.append(f"{message.text} ({message.location.get('url')})")
                if message.type in {"error", "warning"}
                else None
            ),
        )
        return page

    yield build
    for context in contexts:
        context.close()
    unexpected = [
        text for text in complaints if not any(re.search(pattern, text) for pattern in expected)
    ]
    assert unexpected == []


@pytest.fixture
def page(open_page):
    """A page at the size of a desktop."""
    return open_page()


@pytest.fixture(scope="session")
def axe_script():
    """The script of axe-core."""
    given = os.environ.get("IMGRET_AXE")
    if given is not None:
        return Path(given).read_text(encoding="utf-8")
    package = pytest.importorskip(
        "axe_playwright_python", reason="needs axe-core: pip install axe-playwright-python"
    )
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def check_accessible(axe_script):
    """Check that axe-core finds nothing wrong in what a page shows, by all rules or by some."""

    def check(page, *rules):
        # Evaluated by the debugger, as the policy of the page forbids scripts from elsewhere.
        if not page.evaluate("'axe' in window"):
            page.evaluate(axe_script)
        assert page.evaluate(VIOLATIONS, {"runOnly": rules} if rules else {}) == []

    return check


@pytest.fixture
def shot(request):
    """Save what a page shows into $IMGRET_SHOTS, if that is set."""
    folder = os.environ.get("IMGRET_SHOTS")

    def save(page, name=None):
        if folder is not None:
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name or request.node.name}.png")

    return save
