"""Flags are the fields of a dataclass: how they are declared, read from the command line, checked and written."""

import argparse
import math
import operator
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import MISSING, Field, asdict, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, NamedTuple, NoReturn, Protocol, TypeVar, get_args, get_origin, get_type_hints

from CyDAS.utils.errors import CydasError
from CyDAS.utils.extension import load_extension
from CyDAS.utils.settings import as_words, as_yaml, read_settings


def flag(
    default: Any,
    help: str,
    choices: Collection | None = None,
    *,
    of_network: bool = False,
    of_many: bool = False,
    **bounds: float,
) -> Any:
    """A field that is a flag. ``bounds``: those of :data:`BOUNDS` that its value must keep to.

    ``choices``: the values that it may have; a list or dict may grow by a file of the user's own (``--extension``).
    ``of_network``: weights fit networks of one value only; ``of_many``: says which runs there are, not what one is.
    """
    metadata = {"help": help, "choices": choices, "bounds": bounds, "of_network": of_network, "of_many": of_many}
    return field(default=default, metadata=metadata)


#: What a bound asks of a value.
BOUNDS = {"at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt}


class Program(Protocol):
    """A dataclass whose fields are the flags of a program."""

    __dataclass_fields__: ClassVar[dict[str, Field]]
    settings: ClassVar[str]  # an object has its own; it is no field, which would make it a flag
    name: str

    def fill_in(self, given: set[str]) -> None: ...
    def check(self) -> None: ...


Config = TypeVar("Config", bound=Program)


def parse(kind: type[Config], description: str, arguments: list[str] | None) -> tuple[Config, set[str]]:
    """Read the command line (``arguments``, or the program's own).

    Returns the configuration and the names of the flags that were given. Exits with code 2, argparse's own, for an
    unknown flag or a value of the wrong kind; raises :class:`CydasError` for values that do not go together.
    """
    return parse_each(kind, description, arguments)[0]


def parse_each(kind: type[Config], description: str, arguments: list[str] | None) -> list[tuple[Config, set[str]]]:
    """The same for each of the files of ``--configs``, in their order; a single one where there are none.

    What such a file says wins over the file of ``--config``, and flags beside them win over both. A file's name, output
    folder and, beside ``--seeds``, seed do not count, so that it may be one that a run has left.
    """
    parser = _Parser(description=description, allow_abbrev=False)
    hints = get_type_hints(kind)
    parser.takes_extension = "extension" in hints
    for item in fields(kind):
        _add_flag(parser, item, hints[item.name])
    base, beside = _read(parser, sys.argv[1:] if arguments is None else arguments)
    common = base.given | beside
    files = common.get("configs") or []
    if not files:
        return [_made(kind, common, base.rest)]
    of_many = {item.name for item in fields(kind) if item.metadata["of_many"]}
    left_out = of_many | {"name", "output_dir"} | ({"seed"} if common.get("seeds") else set())
    found = []
    for file in files:
        own = _of_file(parser, file)
        if misplaced := sorted(of_many & set(own.given)):
            raise CydasError(f"{file}: --{misplaced[0]} is said once for all --configs: beside them")
        own = _Said(*({n: v for n, v in part.items() if n not in left_out} for part in own))
        given = {name: value for name, value in base.given.items() if name not in own.rest}
        found.append(_made(kind, given | own.given | beside, base.rest | own.rest))
    return found


def _made(kind: type[Config], given: dict[str, Any], rest: dict[str, Any]) -> tuple[Config, set[str]]:
    """A checked configuration of values that were given and those that were said beside."""
    config = kind(**rest | given)
    # As they were said: what follows from them will follow again.
    config.settings = as_yaml(config, given)  # type: ignore[misc]  # see Program.settings
    config.fill_in(set(given))
    if Path(config.name).name != config.name or config.name in ("", "..") or "\0" in config.name:
        raise CydasError(f"--name is a folder's name, without a path, not {config.name!r}")
    for item in fields(kind):
        _check_bounds(item.name, getattr(config, item.name), item.metadata["bounds"])
    config.check()
    return config, set(given)


class _Parser(argparse.ArgumentParser):
    """Says which file a wrong flag is from."""

    file: Path | None = None
    takes_extension = False

    def error(self, message: str) -> NoReturn:
        super().error(f"{self.file}: {message}" if self.file else message)


class _Said(NamedTuple):
    """Flags with their values, as a file of settings has them."""

    given: dict[str, Any]
    rest: dict[str, Any]


def _read(parser: _Parser, arguments: list[str]) -> tuple[_Said, dict[str, Any]]:
    """What the file of ``--config`` says, and what the command line."""
    text = "YAML file of flags, NAME: VALUE, such as a run leaves in its folder; flags beside it win"
    first = _first("--config")
    parser.add_argument("--config", type=Path, metavar="FILE", help=text, default=argparse.SUPPRESS)
    file, words = first.parse_known_args(arguments)
    _extend(parser, words)
    return _of_file(parser, file.config) if "config" in file else _Said({}, {}), vars(parser.parse_args(words))


def _of_file(parser: _Parser, file: Path) -> _Said:
    """What a file of settings says."""
    parser.file, settings = file, read_settings(file)
    _extend(parser, settings.given)
    said = _Said(*(vars(parser.parse_args(part)) for part in settings))
    if "config" in said.given | said.rest:
        parser.error("a file of settings names no other one by config")
    parser.file = None
    return said


def _first(name: str) -> argparse.ArgumentParser:
    """A parser of a flag that must be known before all others."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(name, type=Path, default=argparse.SUPPRESS)
    return parser


def _extend(parser: _Parser, words: list[str]) -> None:
    """Run the file of ``--extension``, if the program has that flag: it may add to the values of the others."""
    if parser.takes_extension:
        known, _ = _first("--extension").parse_known_args(words)
        if "extension" in known:
            load_extension(known.extension)


def _check_bounds(name: str, value: Any, bounds: dict[str, float]) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise CydasError(f"--{name} must be a finite number, not {value}")
    for word, limit in bounds.items():
        if value is not None and not BOUNDS[word](value, limit):
            raise CydasError(f"--{name} must be {word.replace('_', ' ')} {limit}, not {value}")


def take_over(config: Any, saved: dict[str, Any], names: Iterable[str], source: str) -> None:
    """Set those of ``names`` that a saved configuration holds to their values there.

    Raises :class:`CydasError` naming ``source`` where one of these values cannot be the flag's.
    """
    hints = get_type_hints(type(config))
    choices = {item.name: item.metadata["choices"] for item in fields(config)}
    for name in names:
        if name not in saved:
            continue
        value, kinds = saved[name], [get_origin(kind) or kind for kind in _kinds(hints[name])]
        if Path in kinds and isinstance(value, str):
            value = Path(value)
        if type(value) not in kinds and not (Path in kinds and isinstance(value, Path)):
            raise CydasError(f"{source}: its --{name} is {value!r}, which that flag cannot be")
        if value is not None and choices[name] and value not in choices[name]:
            known = ", ".join(map(str, choices[name]))
            own = "; where a file of your own adds it, give --extension FILE" if name in ("space", "dataset") else ""
            raise CydasError(f"{source}: its --{name} is {value!r}, not one of {known}{own}")
        setattr(config, name, value)


def recall_network(config: Any, given: set[str], saved: dict[str, Any], names: list[str], source: str) -> None:
    """Take over ``names`` from a saved configuration, and the flags of the network that were not ``given``.

    Raises :class:`CydasError` naming ``source`` for one that was given and says another network than was saved.
    """
    shape = flags_of_network(config)
    take_over(config, saved, [*names, *(name for name in shape if name not in given)], source)
    for name in shape:
        value = getattr(config, name)
        if name in given - config.foreign() and saved.get(name, value) != value:
            raise CydasError(
                f"{source} is of another architecture or size: --{name} is {saved[name]} there, {value} was given: "
                "leave the flag out"
            )


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The types that a flag's value may have."""
    return get_args(hint) if isinstance(hint, UnionType) else (hint,)


def flags_of_network(config: Any) -> list[str]:
    """The names of the flags that say which network it is."""
    return [item.name for item in fields(config) if item.metadata["of_network"]]


def some_of(config: Any, *names: str) -> dict[str, Any]:
    """Those of the named flags that the configuration's program knows."""
    return {name: getattr(config, name) for name in names if hasattr(config, name)}


def to_arguments(config: Any, names: set[str]) -> list[str]:
    """The flags ``names`` as a command line that says the same."""
    return as_words({name: getattr(config, name) for name in sorted(names)}, "these flags")


def plain(config: Any) -> dict[str, Any]:
    """The configuration as plain values, for JSON files and checkpoints."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}


def _add_flag(parser: argparse.ArgumentParser, item: Field, hint: Any) -> None:
    assert item.default is not MISSING
    optional = isinstance(hint, UnionType)
    kind = get_args(hint)[0] if optional else hint
    many = get_origin(kind) is list
    kind = get_args(kind)[0] if many else kind
    text = item.metadata["help"]
    options: dict[str, Any]
    if kind is bool:
        text += f" (default: {'on' if item.default else 'off'})"
        options = {"action": argparse.BooleanOptionalAction}
    else:
        text += "" if optional else f" (default: {item.default})"
        options = {"type": _as_written(kind), "choices": item.metadata["choices"]}
        if item.metadata["choices"] is None:
            options["metavar"] = {Path: "PATH", str: "TEXT", int: "N", float: "X"}[kind]
        if many:
            options["nargs"] = "+"
    # A flag that is not given leaves no trace, so that the set of given flags can be told.
    parser.add_argument(f"--{item.name}", help=text.replace("%", "%%"), default=argparse.SUPPRESS, **options)


def _as_written(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """``kind``; numbers without what Python takes beyond the usual: 1_000, digits of other scripts."""
    if kind not in (int, float):
        return kind

    def number(text: str) -> Any:
        if "_" in text or not text.isascii():
            raise ValueError(text)
        return kind(text)

    number.__name__ = kind.__name__  # what argparse calls a value of the wrong kind
    return number
