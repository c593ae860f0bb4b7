"""What NATS-Bench knows of its 15,625 architectures, in a table of 1 MB. The program to it: ``CyDAS/nats_table.py``.

A table is a CSV file, gzipped or not, with a row for each architecture and at least the columns of :data:`COLUMNS`.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from CyDAS.models.nats.architecture import STRING, read_architecture
from CyDAS.utils.errors import CydasError, GenotypeError
from CyDAS.utils.files import write_atomically

DATASETS = ("cifar10", "cifar100", "imagenet16")
#: Accuracies after 200 epochs, percent: validation and test on each data set.
FIGURES = tuple(f"{dataset}_{part}" for dataset in DATASETS for part in ("val", "test"))
#: Parameters (millions), multiply-accumulates (millions), seconds of the benchmark's training.
COSTS = (
    *(f"params_M_{dataset}" for dataset in DATASETS),
    *(f"flops_M_{dataset}" for dataset in DATASETS),
    *(f"train_time_s_200ep_{dataset}" for dataset in ("cifar10valid", "cifar100", "imagenet16")),
)
COLUMNS = ("index", "arch_str", *FIGURES, *COSTS)
#: Five operations on each of six edges.
ARCHITECTURES = 5**6
#: How a figure or cost is written, and a row of them all; costs may be unknown.
NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?|nan", re.ASCII)
NUMBERS = re.compile(",".join([f"(?:{NUMBER.pattern})"] * len(FIGURES + COSTS)), re.ASCII)
#: A table that takes more, unpacked, is none.
MAX_BYTES = 50_000_000


@dataclass(frozen=True)
class Entry:
    """One architecture of the benchmark."""

    index: int
    arch: str
    accuracies: dict[str, float]  #: by :data:`FIGURES`, percent
    costs: dict[str, float]  #: by :data:`COSTS`
    ranks: dict[str, int]  #: by :data:`FIGURES`, among all architectures of the table; the best has 1

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        parts = (f"{key} {value:.2f} (rank {self.ranks[key]})" for key, value in self.accuracies.items())
        return f"#{self.index}, " + ", ".join(parts)


class NatsTable:
    """All architectures with what the benchmark says of them."""

    def __init__(self, archs: list[str], columns: dict[str, np.ndarray]):
        self.archs = archs
        self._columns = columns
        self._places = {arch: place for place, arch in enumerate(archs)}

    def __len__(self) -> int:
        return len(self.archs)

    @classmethod
    def read(cls, path: Path, complete: bool = False) -> "NatsTable":
        """Read a table. Raises :class:`CydasError` naming what is wrong with it.

        ``complete``: it must know all architectures of the space.
        """
        try:
            with open(path, "rb") as file:
                packed = file.read(2) == b"\x1f\x8b"
                file.seek(0)
                content = (gzip.GzipFile(fileobj=file) if packed else file).read(MAX_BYTES + 1)
            if len(content) > MAX_BYTES:
                raise CydasError(f"table {path}: more than {MAX_BYTES // 10**6} MB are no table of NATS-Bench")
            rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
        except FileNotFoundError:
            raise CydasError(f"table {path}: there is no such file") from None
        except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
            raise CydasError(f"table {path}: it cannot be read ({error})") from None
        table = cls._from_rows(rows, path)
        if complete and len(table) < ARCHITECTURES:
            raise CydasError(f"table {path}: it has {len(table)} of the {ARCHITECTURES} architectures")
        return table

    @classmethod
    def _from_rows(cls, rows: list[list[str]], path: Path) -> "NatsTable":
        header = rows[0] if rows else []
        for name in COLUMNS:
            if (count := header.count(name)) != 1:
                raise CydasError(f"table {path}: the column {name} is {'there twice' if count else 'missing'}")
        place = {name: header.index(name) for name in COLUMNS}
        names, numbers = (*FIGURES, *COSTS), []
        for number, row in enumerate(rows[1:]):
            if len(row) != len(header) or row[place["index"]] != str(number):
                raise CydasError(f"table {path}, row {number}: {len(header)} columns and index {number} are expected")
            values = [row[place[name]] for name in names]
            if not NUMBERS.fullmatch(",".join(values)):  # in one go: Python is slow over 15 fields of each row
                wrong = next(name for name in names if not NUMBER.fullmatch(row[place[name]]))
                raise CydasError(f"table {path}, row {number}: {wrong} is no number: {row[place[wrong]][:40]!r}")
            numbers.append(list(map(float, values)))
        columns = dict(zip(names, np.array(numbers).reshape(-1, len(names)).T.copy(), strict=True))
        archs = [row[place["arch_str"]] for row in rows[1:]]
        if not archs or len(set(archs)) < len(archs):
            raise CydasError(f"table {path}: it is empty, or an architecture stands in it twice")
        cls._check(archs, columns, path)
        return cls(archs, columns)

    @staticmethod
    def _check(archs: list[str], columns: dict[str, np.ndarray], path: Path) -> None:
        """Raise :class:`CydasError` for what cannot be: accuracies that are no percentages, costs below 0."""
        for name, column in columns.items():
            if name in FIGURES and not np.isfinite(column).all():  # costs may be unknown
                raise CydasError(f"table {path}: a figure is not finite ({name})")
            if (column < 0).any() or (name in FIGURES and (column > 100).any()):
                raise CydasError(f"table {path}: {name} {np.nanmin(column):g} to {np.nanmax(column):g} cannot be")
        for number, arch in enumerate(archs):
            if not STRING.fullmatch(arch):
                raise CydasError(f"table {path}, row {number}: {arch[:80]!r} is no architecture")

    def find(self, architecture: Any) -> Entry:
        """What is known of an architecture, in any form of :func:`read_architecture` or by its index (an ``int``).

        Raises :class:`CydasError` for an unknown one.
        """
        if type(architecture) is int:
            index = architecture
            if not 0 <= index < len(self):
                raise CydasError(f"no architecture {index} in the table: 0 to {len(self) - 1} are")
        else:
            try:
                arch = str(read_architecture(architecture)[0])
            except GenotypeError as error:
                raise CydasError(f"no architecture {str(architecture)[:80]!r}: {error}") from None
            if arch not in self._places:
                raise CydasError(f"no architecture {arch!r} in the table of {len(self)}")
            index = self._places[arch]
        figures, costs = ({n: float(self._columns[n][index]) for n in names} for names in (FIGURES, COSTS))
        ranks = {name: int((self._columns[name] > figures[name]).sum()) + 1 for name in FIGURES}
        return Entry(index, self.archs[index], figures, costs, ranks)

    def column(self, name: str) -> np.ndarray:
        """A figure or cost of all architectures. Raises :class:`CydasError` for an unknown one."""
        if name not in self._columns:
            raise CydasError(f"no figure {name!r} in the table; there are {', '.join(self._columns)}")
        return self._columns[name]

    def random_search(self, architectures: int, seed: int, by: str = "cifar10_val") -> Entry:
        """The best by the figure ``by`` among so many architectures drawn at random, all different.

        Raises :class:`CydasError` for fewer than one architecture, a negative seed, an unknown figure.
        """
        if architectures < 1 or seed < 0:
            raise CydasError(f"random search takes at least 1 architecture and seed 0, not {architectures}, {seed}")
        drawn = np.random.default_rng(seed).choice(len(self), min(architectures, len(self)), replace=False)
        return self.find(int(drawn[np.argmax(self.column(by)[drawn])]))


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write a table that :meth:`NatsTable.read` reads; gzipped where its name ends in .gz."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    content = text.getvalue().encode()
    packed = gzip.compress(content, mtime=0) if path.suffix == ".gz" else content
    write_atomically(path, lambda beside: beside.write_bytes(packed))


def summarise(accuracies: Sequence[dict[str, float]]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation (of the sample; 0 for a single one) of each of :data:`FIGURES`."""
    values = {name: [entry[name] for entry in accuracies] for name in FIGURES}
    return {name: (mean(some), stdev(some) if len(some) > 1 else 0.0) for name, some in values.items()}
