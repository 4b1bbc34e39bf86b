"""CSV that is safe to open in a spreadsheet: no cell becomes a formula, numbers and telephones stay what they are."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

# What Excel, LibreOffice or Sheets take for a formula's beginning, behind any blanks; also in full width.
_FORMULA = re.compile(r"[\t\r]|\s*[=+\-@＝＋－＠]")
_HARMLESS = re.compile(r"[+-]?[\d .()/-]*\d[\d .()/-]*\Z", re.ASCII)  # -12.50, +49 40 123-456


def safe_cell(text: str) -> str:
    """The cell with an apostrophe before it, where a spreadsheet would otherwise reckon with it."""
    return f"'{text}" if _FORMULA.match(text) and not _HARMLESS.match(text) else text


def csv_line(cells: Iterable[str]) -> str:
    """One line of a CSV file, every cell safe, ending in CR LF (RFC 4180)."""
    line = io.StringIO()
    csv.writer(line).writerow([safe_cell(cell) for cell in cells])
    return line.getvalue()
