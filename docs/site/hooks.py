"""What MkDocs does beside its usual work: pages made from code, and files of the project that pages link to.

The pages stand in `docs/` and link to each other and to files elsewhere in the project, as a reader of the repository
needs it. In the site a file of the project is below `project/`, and links are rewritten so that they lead there.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from docs.site import reference

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_ELSEWHERE = re.compile(r"^[a-z][a-z0-9+.-]*:")


def on_config(config: Any) -> Any:
    """Pages that the navigation does not name yet stand at its end, so that none is missing."""
    named = set(re.findall(r"'([^']+\.md)'", repr(config.nav)))
    others = sorted(page.name for page in (ROOT / "docs").glob("*.md") if page.name not in named)
    if others:
        config.nav.append({"More": others})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the first page (the README), the reference, and every file of the project that a page leads to."""
    files.append(File.generated(config, "index.md", content=_rewritten("README.md", "index.md")))
    shim = (ROOT / "docs" / "site" / "vendor" / "iframe-worker.js").read_bytes()
    files.append(File.generated(config, "assets/iframe-worker.js", content=shim))
    for name, content in reference.pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    waiting = ["README.md", *(f"docs/{file.src_uri}" for file in files if _stands_in_docs(file))]
    seen: set[str] = set()
    while waiting:
        source = waiting.pop()
        for target in _targets(source):
            if target.startswith("docs/") or target in seen or not (ROOT / target).is_file():
                continue
            seen.add(target)
            uri = f"project/{target}"
            if target.endswith(".md"):
                files.append(File.generated(config, uri, content=_rewritten(target, uri)))
                waiting.append(target)
            else:
                files.append(File.generated(config, uri, content=(ROOT / target).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links out of `docs/` lead to the files of the project in the site."""
    if not _stands_in_docs(page.file):
        return markdown
    return _rewritten(f"docs/{page.file.src_uri}", page.file.src_uri, markdown)


def _stands_in_docs(file: File) -> bool:
    return file.is_documentation_page() and file.generated_by is None


def _targets(source: str) -> list[str]:
    """The files, by their path in the project, that a page links to."""
    text = (ROOT / source).read_text()
    return [_resolved(source, link[2]) for link in _LINK.finditer(text) if not _ELSEWHERE.match(link[2])]


def _resolved(source: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _rewritten(source: str, page: str, markdown: str | None = None) -> str:
    """The text of a file of the project, with links as the page needs them that it becomes."""

    def link(match: re.Match[str]) -> str:
        before, target, after = match.groups()
        if _ELSEWHERE.match(target):
            return match[0]
        path = _resolved(source, target)
        if (ROOT / path).is_dir():
            # A site shows no folders: what the link is called stays.
            return before[1:-2]
        there = path.removeprefix("docs/") if path.startswith("docs/") else f"project/{path}"
        there = "index.md" if path == "README.md" else there
        return f"{before}{posixpath.relpath(there, posixpath.dirname(page) or '.')}{after}"

    return _LINK.sub(link, (ROOT / source).read_text() if markdown is None else markdown)
