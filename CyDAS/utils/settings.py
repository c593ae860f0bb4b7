"""Settings as YAML: a file of flags for a program, and the file that a run leaves, which repeats it.

A file holds flags by their names, without dashes. Under :data:`REST` a run writes the flags that nobody gave: they
have these values again, but do not count as given.
"""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import write_atomically

#: The settings of a run, in its folder.
SETTINGS = "config.yaml"
#: Where those stand that were not given.
REST = "not_given"
#: How a run is begun, not what it is: its file leaves these out.
BEGINNING = {"resume", "resume_or_start", "overwrite", "dry_run"}
#: More is no file of settings.
MAX_BYTES = 100_000


class Settings(NamedTuple):
    """A file's flags as words of a command line."""

    given: list[str]
    rest: list[str]


def read_settings(path: Path) -> Settings:
    """Raises :class:`CydasError` naming ``path`` for a file that is none, or a value that no flag has."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise CydasError(f"--config {path}: more than {MAX_BYTES} bytes, that is no file of settings")
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise CydasError(f"--config {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise CydasError(f"--config {path}: no YAML: {str(error).splitlines()[0][:200]}") from None
    content = {} if content is None else content
    rest = content.pop(REST, None) if isinstance(content, dict) else None
    for entries in (content, {} if rest is None else rest):
        if not isinstance(entries, dict) or not all(isinstance(name, str) for name in entries):
            raise CydasError(f"--config {path}: flags with their values are expected, one a line, like `lr: 0.1`")
    return Settings(*(as_words(part, f"--config {path}") for part in (content, rest or {})))


def as_words(flags: dict[str, Any], source: str) -> list[str]:
    """The words of a command line that say these flags. Raises :class:`CydasError` naming ``source``."""
    return [word for name, value in flags.items() for word in _words(name, value, source)]


def _words(name: str, value: Any, source: str) -> list[str]:
    """None for a flag without a value."""
    values = value if isinstance(value, list) else [value]
    if not name.isidentifier() or any(isinstance(each, list | dict | bytes) for each in values):
        raise CydasError(f"{source}: {name[:40]}: no value of a flag: {str(value)[:60]!r}")
    if value is None:
        return []
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    return [f"--{name}", *map(str, value)] if isinstance(value, list) else [f"--{name}={value}"]


def as_yaml(config: Any, given: Iterable[str]) -> str:
    """A configuration, as the flags of a program say it."""
    names = set(given)
    said: dict[str, Any] = {}
    rest: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if item.name not in BEGINNING and (value is not None or item.name in names):
            (said if item.name in names else rest)[item.name] = _plain(value)
    return yaml.safe_dump({**said, REST: rest}, sort_keys=False, allow_unicode=True, width=110)


def write_settings(folder: Path, program: str, settings: str) -> None:
    """The file that repeats a run, in its folder."""
    head = (
        f"# python CyDAS/{program}.py --config THIS_FILE --name ANOTHER repeats this run; flags beside the file win\n"
    )
    write_atomically(folder / SETTINGS, lambda path: path.write_text(head + settings, "utf-8"))


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value
