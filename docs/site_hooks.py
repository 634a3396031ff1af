"""What mkdocs does beyond its own: publishes the files outside docs/ that pages link to, and the notebooks.

The pages are plain Markdown that a code host shows as it is. There ``../README.md`` is a file of the repository; on the
site it becomes the page ``repository/README.md``, and a notebook becomes a page of its cells with their stored output.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
DOCS = "docs"
LINK = re.compile(r"(\]\()([^)\s#]+)([^)\s]*\))")
FENCE = re.compile(r"^ *(```+)")


def on_files(files: Files, config: Any) -> Files:
    """Adds a page for each file of the repository that a page links to, and for each notebook."""
    waiting = []
    for file in [*files]:
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
            page = File.generated(
                config, page_of(f"{DOCS}/{file.src_uri}"), content=notebook(ROOT / DOCS / file.src_uri)
            )
            files.append(page)
        if file.is_documentation_page():
            waiting.append(f"{DOCS}/{file.src_uri}")
    while waiting:
        source = waiting.pop()
        for target in outside(source, (ROOT / source).read_text(encoding="utf-8")):
            if files.get_file_from_path(page_of(target)) is None:
                files.append(File.generated(config, page_of(target), content=shown(target)))
                if target.endswith(".md"):
                    waiting.append(target)
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lets links lead to the pages of ``on_files``."""
    uri = page.file.src_uri
    source = uri.removeprefix("repository/") if uri.startswith("repository/") else f"{DOCS}/{uri}"
    return relinked(source, markdown)


def page_of(path: str) -> str:
    """The page of the site, relative to docs/, that shows a file of the repository."""
    if path.startswith(f"{DOCS}/"):
        inside = path.removeprefix(f"{DOCS}/")
        return inside.removesuffix(".ipynb") + ".md" if inside.endswith(".ipynb") else inside
    return f"repository/{path}" if path.endswith(".md") else f"repository/{path}.md"


def outside(source: str, markdown: str) -> list[str]:
    """The files outside docs/ that a file of the repository links to."""
    found = [in_repository(source, match[2]) for line in text_lines(markdown) for match in LINK.finditer(line)]
    return [path for path in found if path is not None and not path.startswith(f"{DOCS}/")]


def in_repository(source: str, target: str) -> str | None:
    """The file that a link means, from the root of the repository; None where it is none of the repository's."""
    if ":" in target:
        return None
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
    return path if (ROOT / path).is_file() else None


def text_lines(markdown: str) -> list[str]:
    """The lines outside of fenced blocks."""
    lines, fence = [], ""
    for line in markdown.splitlines():
        mark = FENCE.match(line)
        if mark and (not fence or mark[1] == fence):
            fence = "" if fence else mark[1]
        elif not fence:
            lines.append(line)
    return lines


def relinked(source: str, markdown: str) -> str:
    start = posixpath.dirname(page_of(source)) or "."
    kept = {*text_lines(markdown)}

    def lead(match: re.Match[str]) -> str:
        path = in_repository(source, match[2])
        return match[0] if path is None else f"{match[1]}{posixpath.relpath(page_of(path), start)}{match[3]}"

    return "\n".join(LINK.sub(lead, line) if line in kept else line for line in markdown.splitlines()) + "\n"


def shown(path: str) -> str:
    """A file of the repository as a page: Markdown as it is, anything else as one block."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return text
    language = {".yaml": "yaml", ".py": "python", ".toml": "toml"}.get(Path(path).suffix, "text")
    return f"# {Path(path).name}\n\n`{path}`\n\n````{language}\n{text.rstrip()}\n````\n"


# --------------------------------------------------------------------------------------------------- notebooks
def notebook(path: Path) -> str:
    """The cells of a notebook with their stored output, as Markdown."""
    parts = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [text for output in cell.get("outputs", []) if (text := output_of(output))]
    return "\n\n".join(parts) + "\n"


def output_of(output: dict[str, Any]) -> str:
    """One output: a picture, a table in HTML, or text."""
    if output["output_type"] == "stream":
        return block("".join(output["text"]))
    data = output.get("data", {})
    if "image/png" in data:
        return f"![the figure that the cell above draws](data:image/png;base64,{''.join(data['image/png']).strip()})"
    if "text/html" in data:  # a frame of pandas brings a style of its own
        html = re.sub(r"<style.*?</style>", "", "".join(data["text/html"]), flags=re.DOTALL)
        return re.sub(r"<table[^>]*>", "<table>", html)
    return block("".join(data.get("text/plain", "")))


def block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```" if text.strip() else ""
