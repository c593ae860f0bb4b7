"""For the site, which ``mkdocs.yml`` describes: files beside docs that pages show, and docstrings as Markdown."""

import re
from pathlib import Path
from typing import Any

import griffe
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
#: A link from a page in docs to a file of the repository: records of measurements, pictures, an example.
OUTWARD = re.compile(r"\]\(\.\./((?:demo|benchmarks)/[\w./-]+)\)")
#: How docstrings name things, which Markdown does as code.
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`~?(?:[\w.]*\.)?(\w+)`")


def on_files(files: Files, config: Any) -> Files:
    """Add the files that pages link to, under ``files/``."""
    pages = [Path(file.abs_src_path) for file in files.documentation_pages() if file.abs_src_path]
    for name in sorted({name for page in pages for name in OUTWARD.findall(page.read_text(encoding="utf-8"))}):
        files.append(File.generated(config, f"files/{name}", abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    return OUTWARD.sub(r"](files/\1)", markdown)


class Roles(griffe.Extension):
    """:class:`Name` and ``code`` in docstrings become `Name` and `code`."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = ROLE.sub(r"`\1`", obj.docstring.value).replace("``", "`")
