"""Makes the pictures of docs/dashboard.md: the dashboard in a browser, with the simulated mesh of its tests.

`make screenshots` runs it. It needs Playwright and the program chromium.
"""

import sys
import threading
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "images"
PICTURES = {
    "dashboard-services": ("", 1100, 560, "light"),
    "dashboard-graph": ("graph", 1100, 560, "light"),
    "dashboard-service": ("service/shop/orders:80", 1100, 760, "dark"),
}
"""Path, width, height and colour scheme of each picture."""
HISTORY_MS = 45_000
"""The page remembers the rates of this time when the pictures are made."""


def main() -> None:
    """Make all pictures, with one browser that has watched the mesh for a while."""
    sys.path.insert(0, str(ROOT / "plugins" / "dashboard" / "tests"))
    browsing, simulation = import_module("browsing"), import_module("simulated_controller")
    server = simulation.Server(simulation.Simulation())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    FOLDER.mkdir(exist_ok=True)
    with browsing.open_browser() as browser:
        page = browser.new_page(viewport={"width": 1100, "height": 560})
        page.goto(server.url)
        page.wait_for_timeout(HISTORY_MS)
        for name, (path, width, height, scheme) in PICTURES.items():
            page.set_viewport_size({"width": width, "height": height})
            page.emulate_media(color_scheme=scheme)
            page.evaluate("path => { location.hash = `#/${path}`; }", path)
            page.wait_for_timeout(3000)
            page.screenshot(path=FOLDER / f"{name}.png")
    server.shutdown()


if __name__ == "__main__":
    main()
