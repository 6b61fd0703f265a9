"""Makes what docs/failing-service.md shows: runs the example shop, makes the pictures, and prints the commands' output.

`make screenshots` runs it. It needs Playwright, the program chromium, and the default ports of `maesh up`.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "images"
MAESH = Path(sys.executable).with_name("maesh")
COMMANDS = (
    ("top", "--once"),
    ("top", "shop/payments", "--once"),
    ("tap", "shop/payments", "--status", "5xx", "--limit", "3"),
)
HISTORY_MS = 65_000
"""The page has watched the mesh for this time when the pictures are made."""
PAUSE_MS = 3_000


def main() -> None:
    """Make all pictures and print all texts, from one run of the example."""
    sys.path.insert(0, str(ROOT / "plugins" / "dashboard" / "tests"))
    browsing = import_module("browsing")
    with run_shop() as url, browsing.open_browser() as browser:
        page = browser.new_page(viewport={"width": 1100, "height": 560})
        page.goto(url)
        page.wait_for_timeout(HISTORY_MS)
        take_pictures(page)
        for arguments in COMMANDS:
            print(f"\n$ maesh {' '.join(arguments)}", flush=True)
            subprocess.run([MAESH, *arguments], check=True, timeout=60)


@contextmanager
def run_shop() -> Iterator[str]:
    """Run the example until the block ends; return the address of the dashboard."""
    command: list[str | Path] = [sys.executable, ROOT / "examples" / "run.py", "shop"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield next(line.strip() for line in process.stdout if line.strip().startswith("http://"))
    finally:
        process.terminate()
        process.wait(60)


def take_pictures(page: Any) -> None:
    """Go the way of the docs' page through the dashboard."""
    FOLDER.mkdir(exist_ok=True)
    page.screenshot(path=FOLDER / "failing-services.png")
    page.get_by_role("link", name="payments").first.click()
    page.get_by_text("127.0.8.7:8807").scroll_into_view_if_needed()
    page.wait_for_timeout(PAUSE_MS)
    page.screenshot(path=FOLDER / "failing-service.png")
    page.evaluate("scrollTo(0, 0)")
    page.get_by_role("link", name="Tap", exact=True).click()
    page.get_by_role("button", name="Stop").click()
    page.get_by_label("Status").fill("5xx")
    page.get_by_role("button", name="Start").click()
    page.wait_for_timeout(3 * PAUSE_MS)
    page.screenshot(path=FOLDER / "failing-tap.png")
    page.get_by_role("link", name="Graph").click()
    page.wait_for_timeout(PAUSE_MS)
    page.screenshot(path=FOLDER / "failing-graph.png")


if __name__ == "__main__":
    main()
