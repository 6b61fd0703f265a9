"""A Chromium for tests of the dashboard. They are skipped, with the reason, where there is none."""

import os
from contextlib import contextmanager
from shutil import which

PROGRAM = os.environ.get("MAESH_CHROMIUM") or which("chromium") or ""
PATIENCE_MS = 60_000


def find_missing():
    """Say what keeps the tests from running; empty if nothing does."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not installed: `make browser` installs it"
    return "" if PROGRAM else "there is no program chromium"


@contextmanager
def open_browser(*arguments):
    """Run a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=["--no-sandbox", *arguments])
        try:
            yield browser
        finally:
            browser.close()


def open_page(browser, url, *, width=1280, height=800, color_scheme="light", **more):
    """Open a page. Its errors, its console's errors and its requests to other hosts are in `page.troubles`."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=color_scheme, **more)
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.troubles = []
    page.on("console", lambda message: message.type in ("error", "warning") and page.troubles.append(message.text))
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("request", lambda request: request.url.startswith(url) or page.troubles.append(request.url))
    page.goto(f"{url}/")
    return page


def wait_until(page, expression, arg=None):
    """Wait until an expression is true. Playwright's own wait uses `eval`, which the page's policy forbids."""
    while not page.evaluate(expression, arg):
        page.wait_for_timeout(50)
