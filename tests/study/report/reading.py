"""Reads a page as a browser would, and says what is wrong with it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from xml.etree import ElementTree

VOID = {"meta", "br", "img", "link", "input", "hr", "wbr"}


@dataclass
class Page(HTMLParser):
    """What a page holds.

    Args:
        text (str): The page.
    """

    source: str
    ids: list[str] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        HTMLParser.__init__(self)
        self._open: list[str] = []
        self._table = ""
        self.feed(self.source)
        self.close()
        assert self._open == [], f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)
        if known.get("id"):
            self.ids.append(str(known["id"]))
        if tag == "div" and known.get("class") == "table":
            self._table = str(known["id"])
        if tag == "tr" and self._table:
            self.tables.setdefault(self._table, []).append([])
        if tag in ("td", "th") and self._table:
            self.tables[self._table][-1].append("")
        for name, value in attrs:
            if name in ("src", "srcset", "action", "data", "poster") or (
                name.endswith("href") and tag not in ("a", "use")
            ):
                self.resources.append(str(value))
        if tag in ("a", "use"):
            self.links.append(str(known.get("href") or known.get("xlink:href")))
        self.resources += re.findall(r"url\(([^)]*)\)", str(known.get("style", "")))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> closes {self._open[-1:]}"
        self._open.pop()
        if tag == "table":
            self._table = ""

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._table and self._open[-1] in ("td", "th"):
            self.tables[self._table][-1][-1] += data

    @property
    def figures(self) -> list[ElementTree.Element]:
        """Every ``<svg>``, which must be well-formed XML."""
        return [ElementTree.fromstring(text) for text in re.findall(r"<svg.*?</svg>", self.source, re.DOTALL)]

    @property
    def text(self) -> str:
        """All text."""
        return " ".join("".join(self.words).split())

    def check(self) -> None:
        """Nothing from the network, ids once, links to ids, whole figures."""
        for place in self.resources:
            assert place.startswith(("#", "data:image/png;base64,")), place
        assert not re.search(r"@import|fetch\(|XMLHttpRequest|<link|<iframe|<img", self.source)
        addresses = {found for found in re.findall(r"https?://[^\s\"'<>)]+", self.source)}
        assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}, addresses
        assert len(set(self.ids)) == len(self.ids), sorted({i for i in self.ids if self.ids.count(i) > 1})
        assert all(link.startswith("#") and link[1:] in self.ids for link in self.links)
        assert self.figures and all(figure.tag.endswith("svg") for figure in self.figures)
        assert all(figure.get("aria-labelledby") in self.ids for figure in self.figures)
        assert self.source.count("<figcaption") == self.source.count("<figure ")
