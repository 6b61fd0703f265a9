"""A hook of mkdocs: puts pages of the repository that are outside docs/ into the site, and adapts links between pages.

Markdown in this repository links by path, as a reader of the repository needs it. Links to pages of the site become
links within the site; links to other files become their path as text, because the site has no copy of these files.
A link to nothing stays as it is, and mkdocs reports it.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]

PAGES = {
    "charts/README.md": "helm-chart.md",
    **{f"plugins/{name}/README.md": f"plugins/{name}.md" for name in ("acl", "circuitbreaker", "ratelimit", "retry")},
    **{
        f"plugins/{name}/README.md": f"plugins/{name}.md"
        for name in (
            "gateway",
            "compress",
            "concurrency",
            "jwt",
            "headers",
            "mirror",
            "fault",
            "cors",
            "rewrite",
            "redirect",
            "session",
            "timeout",
        )
    },
    "plugins/egress/README.md": "plugins/egress.md",
    "plugins/mtls/README.md": "plugins/mtls.md",
    **{f"plugins/{name}/README.md": f"plugins/{name}.md" for name in ("dashboard", "otel", "smi", "udp", "access-log")},
    **{
        f"examples/plugins/{name}/README.md": f"examples/{name}.md"
        for name in ("maesh-stamp", "maesh-forward-auth", "maesh-consistent-hash", "maesh-relay")
    },
    "benchmarks/RESULTS.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CODE_OF_CONDUCT.md": "code-of-conduct.md",
}
"""Pages outside docs/, and where they are in the site."""

_FENCE = re.compile(r"(^ {0,3}(`{3,}|~{3,}).*?^ {0,3}\2[ \t]*$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages to the files of the site."""
    for path, place in PAGES.items():
        files.append(File.generated(config, place, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Adapt the links of one page."""
    del config, files
    return adapt_links(markdown, page.file.src_uri)


def adapt_links(markdown: str, place: str) -> str:
    """Adapt the links of the page at this place of the site; code is left alone."""
    parts = _FENCE.split(markdown)
    # The pattern has two groups: text, fenced block, its fence, text, ...
    for index in range(0, len(parts), 3):
        parts[index] = _LINK.sub(lambda match: _adapt_link(match, place), parts[index])
    return "".join(part for index, part in enumerate(parts) if index % 3 != 2)


def _adapt_link(match: "re.Match[str]", place: str) -> str:
    text, target = match[1], match[2]
    path, hash_sign, anchor = target.partition("#")
    if not path or _SCHEME.match(target):
        return match[0]
    source = find_source(place)
    wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    found = find_place(wanted)
    if found is not None:
        return f"[{text}]({posixpath.relpath(found, posixpath.dirname(place) or '.')}{hash_sign}{anchor})"
    if wanted.startswith("..") or not (ROOT / wanted).exists():
        return match[0]
    return text if text.strip("`") == wanted else f"{text} (`{wanted}`)"


def find_source(place: str) -> str:
    """Find the path in the repository of a page of the site."""
    return next((path for path, known in PAGES.items() if known == place), f"docs/{place}")


def find_place(path: str) -> str | None:
    """Find where in the site a path of the repository is; None for what is not in it."""
    if path in PAGES:
        return PAGES[path]
    is_page = path.startswith("docs/") and (ROOT / path).is_file()
    return path.removeprefix("docs/") if is_page else None


def list_places() -> list[str]:
    """List the places of all pages of the site."""
    own: list[Any] = [path.relative_to(ROOT / "docs").as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))]
    return [*own, *PAGES.values()]
