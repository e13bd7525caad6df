"""The measured part of a page: the text between two marker lines that name the script which writes it."""

from pathlib import Path
from typing import NamedTuple

__all__ = ["Measured"]


class Measured(NamedTuple):
    """The part of a page that a script measures, between ``<!-- name:begin -->`` and ``<!-- name:end -->``."""

    page: Path
    name: str

    @property
    def begin(self) -> str:
        return f"<!-- {self.name}:begin -->"

    @property
    def end(self) -> str:
        return f"<!-- {self.name}:end -->"

    def parts(self) -> tuple[str, str, str]:
        """The text before, between and after the two marker lines; an error unless each is there once, in order."""
        text = self.page.read_text(encoding="utf-8")
        if text.count(self.begin) != 1 or text.count(self.end) != 1 or text.index(self.end) < text.index(self.begin):
            raise ValueError(f"{self.page.name} must contain the lines {self.begin} and {self.end} once each, in this order")
        before, _, rest = text.partition(self.begin)
        between, _, after = rest.partition(self.end)
        return before, between, after

    def fill(self, text: str) -> None:
        before, _, after = self.parts()
        self.page.write_text(f"{before}{self.begin}\n{text.rstrip()}\n{self.end}{after}", encoding="utf-8")
