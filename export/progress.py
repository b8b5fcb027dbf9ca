"""How far a long command is, on standard error."""

import sys
import time

# Seconds before the first line, and between two: on a terminal, where a line is overwritten, and elsewhere.
TERMINAL, ELSEWHERE = 0.5, 5.0


class Progress:
    """Rows and rows a second; nothing where all is done within seconds."""

    def __init__(self):
        self._terminal = sys.stderr.isatty()
        self._begin = self._last = time.monotonic()
        self._rows, self._said, self._shown = 0, 0, False

    def add(self, rows: int) -> None:
        """So many more are done."""
        self._rows += rows
        if time.monotonic() - self._last >= (TERMINAL if self._terminal else ELSEWHERE):
            self._show()

    def end(self) -> None:
        """All are done: the last word, if there was one before that is not as good."""
        if self._shown:
            if self._rows != self._said:
                self._show()
            if self._terminal:
                print(file=sys.stderr)

    def _show(self) -> None:
        self._last, self._shown, self._said = time.monotonic(), True, self._rows
        speed = self._rows / (self._last - self._begin)
        rows = "1 row" if self._rows == 1 else f"{self._rows:,} rows"
        line = f"{rows}, {speed:,.0f} rows/s" if speed >= 1 or not speed else f"{rows}, {1 / speed:,.0f} s a row"
        begin, end = ("\r", "  ") if self._terminal else ("", "\n")
        print(f"{begin}{line}", end=end, file=sys.stderr, flush=True)
