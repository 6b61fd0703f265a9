"""How long the dashboard takes to draw a large mesh: in a browser, with the simulated controller of the plugin's tests.

Prints for the list and for the graph the time from the last byte of the data until the drawing, how much CPU time the
page used from its start until then, and the size of what a browser loads. Writes benchmarks/results/dashboard.json,
which report.py puts into RESULTS.md. Needs Playwright and the program chromium.
"""

import argparse
import json
import os
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import Any

from observation_report import render_dashboard
from processes import describe_machine

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "benchmarks" / "results" / "dashboard.json"
DRAWN = {"": ".virtual li", "graph": ".drawing .node"}
TITLES = {"": "list", "graph": "graph"}
WATCH = """
window.drawnAt = {};
const watch = () => {
  for (const selector of SELECTORS)
    if (!(selector in drawnAt) && document.querySelector(selector))
      requestAnimationFrame(() => setTimeout(() => { drawnAt[selector] ??= performance.now(); }));
  requestAnimationFrame(watch);
};
watch();
"""
DATA_AT = """Math.max(...["traffic", "services"].map(
  name => performance.getEntriesByType("resource").find(each => each.name.endsWith(`/api/${name}`)).responseEnd))"""
LOADED = (
    "performance.getEntriesByType('resource').filter(each => !/api/.test(each.name)).map(each => each.encodedBodySize)"
)


def main() -> None:
    """Measure each drawing a few times, with a fresh page."""
    parser = argparse.ArgumentParser(description="Measure how long the dashboard takes to draw a large mesh.")
    for name, default in (("services", 2000), ("edges", 500), ("runs", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--output", type=Path, default=OUTPUT, help="the file of results")
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT / "plugins" / "dashboard" / "tests"))
    browsing, simulation = import_module("browsing"), import_module("simulated_controller")
    server = simulation.Server(simulation.Simulation(given.services, given.edges))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    load, _, _ = os.getloadavg()
    views: dict[str, list[dict[str, float]]] = {title: [] for title in TITLES.values()}
    with browsing.open_browser() as browser:
        for _ in range(given.runs):
            for path, title in TITLES.items():
                views[title].append(measure(browser, server.url, path))
    server.shutdown()
    figures = {"services": given.services, "edges": given.edges, "load": load, "views": views}
    given.output.parent.mkdir(exist_ok=True)
    given.output.write_text(json.dumps({"machine": describe_machine(), "dashboard": figures}, indent=1))
    print(f"{render_dashboard(figures)}\n\nreport.py {given.output} puts this into RESULTS.md.")


def measure(browser: Any, url: str, path: str) -> dict[str, float]:
    """Open a page, wait until it has drawn, and return what that took."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.add_init_script(WATCH.replace("SELECTORS", str(list(DRAWN.values()))))
    page.goto(f"{url}/#/{path}")
    page.wait_for_function("selector => selector in drawnAt", arg=DRAWN[path], timeout=120_000)
    metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
    waited_ms = page.evaluate(f"drawnAt[{DRAWN[path]!r}] - {DATA_AT}")
    loaded = sum(page.evaluate(LOADED))
    page.close()
    return {"drawn_ms": waited_ms, "cpu_ms": metrics["TaskDuration"] * 1000, "loaded_bytes": loaded}


if __name__ == "__main__":
    main()
