"""A report's parts, and how they are written: as one HTML file, and as Markdown with its pictures beside it."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from CyDAS.utils.files import write_atomically

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.25rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd }
img { max-width: 100%; height: auto } figure { margin: 1rem 0 } figcaption { font-size: .85rem; color: #555 }
figcaption, td { overflow-wrap: anywhere }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem }
th, td { border: 1px solid #ccc; padding: .25rem .6rem; text-align: left; vertical-align: top; min-width: 4.2rem }
pre { background: #f4f4f4; padding: .7rem; overflow-x: auto; font-size: .85rem }
.warning { background: #fff3cd; border-left: 4px solid #e0a800; padding: .5rem .8rem }
.steps input { width: 100% }
"""
#: Moves through the pictures of a series.
SCRIPT = """
document.querySelectorAll('.steps').forEach(box => {
  const pictures = box.querySelectorAll('figure'), slider = box.querySelector('input');
  const show = () => pictures.forEach((p, i) => p.hidden = i != slider.value);
  slider.addEventListener('input', show); show();
});
"""


@dataclass
class Picture:
    """``png``: a file's bytes; ``name``: of the file beside the Markdown."""

    name: str
    png: bytes
    caption: str


@dataclass
class Page:
    """A report, part by part."""

    title: str
    _html: list[str] = field(default_factory=list)
    _markdown: list[str] = field(default_factory=list)
    _pictures: list[Picture] = field(default_factory=list)

    def heading(self, text: str) -> None:
        self._add(f"<h2>{html.escape(text)}</h2>", f"## {text}")

    def text(self, text: str) -> None:
        self._add(f"<p>{html.escape(text)}</p>", text)

    def warning(self, text: str) -> None:
        """What nobody should overlook."""
        self._add(f'<p class="warning">{html.escape(text)}</p>', f"> **Note:** {text}")

    def commands(self, lines: Sequence[str]) -> None:
        text = "\n".join(lines)
        self._add(f"<pre>{html.escape(text)}</pre>", f"```\n{text}\n```")

    def table(self, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A row for each of ``rows``; a ``head`` of nothing but empty names is for Markdown alone, which wants one."""
        cells = [[str(cell) for cell in row] for row in (head, *rows)]
        lines = [
            "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in row)
            for row, tag in zip(cells, ["th", *["td"] * len(rows)], strict=True)
        ]
        body = "".join(f"<tr>{line}</tr>" for line in lines[0 if any(head) else 1 :])
        plain = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in cells]
        first, *others = [f"| {' | '.join(row)} |" for row in plain]
        text = "\n".join([first, "|" + "---|" * len(head), *others])
        self._add(f'<div class="scroll"><table>{body}</table></div>', text)

    def picture(self, picture: Picture) -> None:
        self._add(_figure(picture), self._beside(picture))

    def series(self, pictures: Sequence[Picture]) -> None:
        """Pictures to step through; Markdown has the first, the middle and the last."""
        last = len(pictures) - 1
        slider = f'<input type="range" min="0" max="{last}" value="{last}" aria-label="round">'
        chosen = [pictures[index] for index in sorted({0, last // 2, last})]
        figures = "".join(map(_figure, pictures))
        self._add(f'<div class="steps">{slider}{figures}</div>', "\n\n".join(map(self._beside, chosen)))

    def _add(self, as_html: str, as_markdown: str) -> None:
        self._html.append(as_html)
        self._markdown.append(as_markdown)

    def _beside(self, picture: Picture) -> str:
        self._pictures.append(picture)
        return f"![{picture.caption}]({{folder}}/{picture.name}.png)\n\n*{picture.caption}*"

    def write(self, stem: Path) -> list[Path]:
        """``stem``.html, ``stem``.md and the folder ``stem``_pictures. Raises :class:`CydasError` where it cannot."""
        title = html.escape(self.title)
        page = (
            f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
            f"<body><h1>{title}</h1>{''.join(self._html)}<script>{SCRIPT}</script></body></html>"
        )
        folder = stem.with_name(f"{stem.name}_pictures")
        text = "\n\n".join([f"# {self.title}", *self._markdown]).replace("({folder}/", f"({folder.name}/") + "\n"
        files = {stem.with_name(f"{stem.name}.html"): page.encode(), stem.with_name(f"{stem.name}.md"): text.encode()}
        for picture in self._pictures:
            write_atomically(folder / f"{picture.name}.png", partial(Path.write_bytes, data=picture.png))
        for path, content in files.items():
            write_atomically(path, partial(Path.write_bytes, data=content))
        return list(files)


def _figure(picture: Picture) -> str:
    source, caption = base64.b64encode(picture.png).decode(), html.escape(picture.caption)
    image = f'<img alt="{caption}" src="data:image/png;base64,{source}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
