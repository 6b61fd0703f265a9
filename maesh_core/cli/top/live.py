"""Runs the live view: the loop of keys, reports and redraws, and the terminal around it.

The terminal is restored on every end: `q`, Ctrl-C, SIGTERM, SIGHUP, an exception, and while Ctrl-Z suspends the
process. Signal handlers only set flags; the loop acts on them.
"""

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from maesh_core.cli.top.drawing import draw_screen
from maesh_core.cli.top.keys import ESCAPE_WAIT_S, KeyDecoder
from maesh_core.cli.top.reading import Reader
from maesh_core.cli.top.services import select_services
from maesh_core.cli.top.spans import Line, Style
from maesh_core.cli.top.view import View
from maesh_core.model.traffic import TrafficReport
from maesh_core.settings.traffic import TopSettings

CLOCK_S = 1.0
"""The longest time without a redraw: the age of old data is shown in seconds."""
READ_BYTES = 4096

_STYLES: dict[Style, str] = {
    "": "",
    "title": "bold",
    "head": "bold",
    "bad": "bold red",
    "warn": "yellow",
    "dim": "dim",
    "selected": "reverse",
    "selected bad": "bold red reverse",
}
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_live(settings: TopSettings, source: str, report: TrafficReport, service: str | None) -> None:
    """Show the view until the user quits; `report` of the controller `source` is shown first."""
    view = View(source, sort=settings.sort, filter_text=settings.filter)
    view.apply_report(report, time.time())
    if service is not None:
        open_named(view, service)
    with _Screen() as screen:
        screen.run(view, settings)


def open_named(view: View, service: str) -> None:
    """Open a service by name; if it has several ports, list them. Raises StartupError."""
    found = select_services(view.report.services if view.report else (), service)
    if len(found) == 1:
        view.opened = view.selected = found[0].key
    else:
        view.filter_text = f"{found[0].namespace}/{found[0].name}:"


class _Wake:
    """A pipe that ends the wait of the loop, from signals and from the reader's thread."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __repr__(self) -> str:
        return f"<_Wake {self.reading}>"

    def call(self) -> None:
        with suppress(OSError):  # full: the loop wakes anyway
            os.write(self.writing, b"\0")

    def drain(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self.reading, READ_BYTES):
                pass

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


class _Screen:
    """The terminal in the state that the view needs."""

    def __init__(self) -> None:
        self._input, self._output = sys.stdin.fileno(), sys.stdout.fileno()
        self._console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
        self._wake = _Wake()
        self._keys = KeyDecoder()
        self._is_ended = self._is_suspended = False
        self._pending: list[Callable[[View], None]] = []

    def __repr__(self) -> str:
        return f"<_Screen {self._console.size}>"

    def __enter__(self) -> "_Screen":
        return self

    def __exit__(self, *_: object) -> None:
        self._wake.close()

    def run(self, view: View, settings: TopSettings) -> None:
        """Run until an end."""
        reader = Reader(
            settings,
            on_report=lambda source, report: self._post(
                lambda view: view.apply_report(report, time.time(), source=source)
            ),
            on_failure=lambda text: self._post(lambda view: view.apply_failure(text)),
        )
        with self._signals():
            reader.start()
            try:
                while not (self._is_ended or view.is_ended):
                    with self._raw_terminal() as live:
                        self._show(view, live)
                    if self._is_suspended:
                        self._suspend()
            finally:
                reader.close()

    def _post(self, change: Callable[[View], None]) -> None:
        """Change the view in the loop's thread."""
        self._pending.append(change)
        self._wake.call()

    def _show(self, view: View, live: Live) -> None:
        """Redraw after each key, report, signal and second, until an end or Ctrl-Z."""
        while not (self._is_ended or self._is_suspended or view.is_ended):
            width, height = os.get_terminal_size(self._output)
            self._console.size = (width, height)
            live.update(_render(draw_screen(view, width, height, now_s=time.time())), refresh=True)
            for key in self._wait_for_keys():
                view.press(key)
            pending, self._pending = self._pending, []
            for change in pending:
                change(view)

    def _wait_for_keys(self) -> Sequence[str]:
        wait_s = ESCAPE_WAIT_S if self._keys.is_pending else CLOCK_S
        readable, _, _ = select.select([self._input, self._wake.reading], [], [], wait_s)
        self._wake.drain()
        if self._input not in readable:
            return self._keys.flush() if self._keys.is_pending and not readable else ()
        try:
            data = os.read(self._input, READ_BYTES)
        except OSError:  # the terminal is gone
            data = b""
        self._is_ended = self._is_ended or not data
        return self._keys.feed(data)

    @contextmanager
    def _raw_terminal(self) -> Iterator[Live]:
        """Read keys at once and without echo, on the alternate screen; Ctrl-C stays a signal."""
        before = termios.tcgetattr(self._input)
        live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        try:
            tty.setcbreak(self._input)
            with live:
                yield live
        finally:
            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self._input, termios.TCSADRAIN, before)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn signals into flags; those before are restored at the end."""
        handlers: dict[signal.Signals, Any] = dict.fromkeys(_ENDING, self._on_end)
        handlers |= {signal.SIGTSTP: self._on_suspend, signal.SIGWINCH: self._on_resize}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_end(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._is_ended = True
        self._wake.call()

    def _on_suspend(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._is_suspended = True
        self._wake.call()

    def _on_resize(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._wake.call()

    def _suspend(self) -> None:
        """Stop this process as Ctrl-Z does, and go on after SIGCONT."""
        self._is_suspended = False
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._on_suspend)


def _render(lines: Sequence[Line]) -> Text:
    """Turn lines into what rich draws."""
    text = Text("", no_wrap=True, overflow="crop", end="")
    for place, line in enumerate(lines):
        text.append("\n" if place else "")
        for part in line:
            text.append(part.text, _STYLES[part.style])
    return text
