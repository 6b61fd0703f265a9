"""The state of the live view, and what each key changes. Draws nothing and reads nothing.

Takes reports, failures to read one, and keys. The selected row is remembered by its service, so it stays selected when
new data change the order.
"""

from maesh_core.cli.top.services import SORT_ORDER, filter_services, sort_services
from maesh_core.model.traffic import ServiceTraffic, TrafficReport

FILTER_LIMIT = 200


class View:
    """What the user sees: the list, or one opened service."""

    def __init__(self, source: str, *, sort: str = "health", filter_text: str = "", opened: str | None = None) -> None:
        self.source = source
        self.report: TrafficReport | None = None
        self.received_at_s = 0.0
        self.failure = ""
        self.sort = sort
        self.is_reversed = False
        self.is_total = False
        self.filter_text = filter_text
        self.is_filtering = False
        self.opened = opened
        self.selected = ""
        self.first_row = 0
        """The first row that is shown, of the list or of the opened service; drawing.py keeps it in range."""
        self.page_rows = 1
        """How many rows fit; set by drawing.py."""
        self.is_ended = False
        self._rows: list[ServiceTraffic] | None = None

    def __repr__(self) -> str:
        return f"<View sort={self.sort} filter={self.filter_text!r} opened={self.opened}>"

    @property
    def rows(self) -> list[ServiceTraffic]:
        """The services that are listed, in order."""
        if self._rows is None:
            services = self.report.services if self.report else ()
            found = filter_services(services, self.filter_text)
            self._rows = sort_services(found, self.sort, is_total=self.is_total, is_reversed=self.is_reversed)
        return self._rows

    @property
    def selected_row(self) -> int:
        """The place of the selected service in `rows`; 0 if it is gone."""
        return next((place for place, each in enumerate(self.rows) if each.key == self.selected), 0)

    def find_opened(self) -> ServiceTraffic | None:
        """Find the opened service in the report; None if it is no longer there."""
        services = self.report.services if self.report else ()
        return next((each for each in services if each.key == self.opened), None)

    def apply_report(self, report: TrafficReport, now_s: float, *, source: str = "") -> None:
        """Show a new report; `source` names the controller that sent it."""
        self.source = source or self.source
        self.report, self.received_at_s, self.failure = report, now_s, ""
        self._rows = None

    def apply_failure(self, text: str) -> None:
        """Remember that the controller did not answer; the last report stays."""
        self.failure = text

    def press(self, key: str) -> None:
        """React to a key; unknown keys do nothing."""
        if self.is_filtering:
            self._edit_filter(key)
        elif len(key) > 1 or key in "jkgG ":
            self._move(key)
        else:
            self._act(key)
        self._rows = None

    def _edit_filter(self, key: str) -> None:
        if key == "enter":
            self.is_filtering = False
        elif key in ("escape", "clear"):
            self.filter_text = ""
            self.is_filtering = key == "clear"
        elif key == "backspace":
            self.filter_text = self.filter_text[:-1]
        elif len(key) == 1:
            self.filter_text = (self.filter_text + key)[:FILTER_LIMIT]
        else:
            self._move(key)

    def _move(self, key: str) -> None:
        if key == "enter":
            self._open()
        elif key in ("escape", "backspace"):
            self._go_back()
        else:
            page = max(1, self.page_rows - 1)
            steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page-up": -page, "page-down": page, " ": page}
            ends = {"home": -len(self.rows), "g": -len(self.rows), "end": len(self.rows), "G": len(self.rows)}
            if self.opened is not None:
                ends = {"home": -self.first_row, "g": -self.first_row, "end": 1_000_000, "G": 1_000_000}
            self._step({**steps, **ends}.get(key, 0))

    def _step(self, count: int) -> None:
        if self.opened is not None:
            self.first_row = max(0, self.first_row + count)
        elif self.rows:
            place = min(max(self.selected_row + count, 0), len(self.rows) - 1)
            self.selected = self.rows[place].key

    def _open(self) -> None:
        if self.opened is None and self.rows:
            self.selected = self.opened = self.rows[self.selected_row].key
            self.first_row = 0

    def _go_back(self) -> None:
        """Close the opened service, or else remove the filter."""
        if self.opened is not None:
            self.selected, self.opened, self.first_row = self.opened, None, 0
        else:
            self.filter_text = ""

    def _act(self, key: str) -> None:
        if key == "s":
            self.sort = SORT_ORDER[(SORT_ORDER.index(self.sort) + 1) % len(SORT_ORDER)]
        elif key == "r":
            self.is_reversed = not self.is_reversed
        elif key == "t":
            self.is_total = not self.is_total
        elif key == "/":
            if self.opened is not None:
                self._go_back()
            self.is_filtering = True
        elif key == "q":
            self.is_ended = True
