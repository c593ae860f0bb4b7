"""Look at a folder of images before anything is trained on it: ``python -m CyDAS.check_data FOLDER``."""

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from CyDAS.data.inspection import contact_sheet, in_both, inspect
from CyDAS.reports.page import Page, Picture
from CyDAS.utils.errors import run_program
from CyDAS.utils.texts import say


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Say what there is in a folder of images, one folder a class: counts, sizes, kinds, mean and "
        "standard deviation, damaged files, images that are there twice or in both parts."
    )
    parser.add_argument("folder", type=Path, help="class folders, or a folder with train and val (or the like) in it")
    parser.add_argument(
        "--test_dir", type=Path, metavar="PATH", help="class folders for tests, where they lie elsewhere"
    )
    parser.add_argument(
        "--output", type=Path, metavar="PATH", help="also write it, with a contact sheet, as PATH.html and PATH.md"
    )
    options = parser.parse_args(arguments)
    parts, page = inspect(options.folder, options.test_dir), Page(f"images in {options.folder}")
    shared = in_both(parts)
    for part in parts:
        page.heading(part.title)
        for line in part.lines():
            say(line)
            page.text(line)
        page.table(["class", "images"], list(part.counts.items()))
        caption = f"{part.title}: the first images of {', '.join(list(part.samples)[:20])}"
        page.picture(Picture(part.title.replace(" ", "_"), contact_sheet(part), caption))
    if shared:
        text = f"{len(shared)} training images are test images, too, first: {' = '.join(sorted(shared)[0])}"
        say(f"warning: {text}")
        page.warning(text)
    if len(parts) == 1:
        say("there is one part only: --test_share 0.2 keeps a fifth of every class for tests")
    if options.output:
        for path in page.write(options.output):
            say(f"written: {path}")


def run_main() -> None:
    run_program(main)


if __name__ == "__main__":
    run_main()
