"""Where things stand: imports point one way, from programs down, and no file has grown beyond what is read at once."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "CyDAS"
#: From the ground up; what stands directly in the package is a program or of several programs.
FLOORS = {
    "utils": 0,
    "runs": 1,
    "config": 2,
    "models": 3,
    "data": 4,
    "tasks": 4,
    "spaces": 4,
    "engine": 5,
    "reports": 5,
    "exporting": 5,
}
PROGRAMS = 6
LONGEST = 300


def name_of(path):
    parts = ("CyDAS", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(path):
    """The package's modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= inner or {node.module}
    return {name for name in found if name in MODULES}


IMPORTS = {name: imports_of(path) for name, path in MODULES.items()}


def floor(name):
    """``CyDAS`` itself holds the version, for which everybody may ask, and what comes before every other import."""
    parts = name.split(".")
    return -1 if len(parts) == 1 or name == "CyDAS.utils.after_import" else FLOORS.get(parts[1], PROGRAMS)


def test_no_import_points_upwards():
    assert {name.split(".")[1] for name in MODULES if name.count(".") > 1} <= set(FLOORS), "a room without a floor"
    pairs = [(name, used) for name, all_used in IMPORTS.items() for used in all_used]
    assert not [f"{name} -> {used}" for name, used in pairs if floor(used) > floor(name)]


def test_no_module_imports_itself_by_way_of_others():
    done = set()

    def visit(name, way):
        assert name not in way, f"a circle: {' -> '.join([*way, name])}"
        if name not in done:
            for used in sorted(IMPORTS[name]):
                visit(used, [*way, name])
            done.add(name)

    for name in MODULES:
        visit(name, [])


@pytest.mark.parametrize("folder", ["CyDAS", "scripts", "demo"])
def test_no_file_is_longer_than_is_read_at_once(folder):
    long = {
        str(path.relative_to(ROOT)): lines
        for path in Path(ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > LONGEST
    }
    assert not long


@pytest.mark.parametrize("program", ["search", "retrain", "test", "segment", "detect", "export"])
def test_programs_only_wire(program):
    """What opening a run means is in one place, and no program does it by hand."""
    by_hand = {f"CyDAS.runs.{name}" for name in ("about", "folder", "keeper", "logs", "meters")}
    assert not IMPORTS[f"CyDAS.{program}"] & by_hand
    assert len(MODULES[f"CyDAS.{program}"].read_text().splitlines()) < 110


def test_an_upward_import_and_a_circle_would_be_seen(tmp_path):
    """The claims above can fail: of a file that imports from a program, inside a function too."""
    file = tmp_path / "low.py"
    file.write_text("def f():\n    from CyDAS.engine import cycle\n    import CyDAS.search\n")
    assert imports_of(file) == {"CyDAS.engine.cycle", "CyDAS.search"}
    assert floor("CyDAS.utils.errors") < floor("CyDAS.engine.cycle") < floor("CyDAS.search")


def test_what_families_of_networks_share_knows_none_of_them():
    shared = [name for name in MODULES if name.startswith("CyDAS.models.") and name.count(".") == 2]
    shared = [name for name in shared if MODULES[name].name != "__init__.py"]
    assert {"CyDAS.models.joint", "CyDAS.models.weight_pool", "CyDAS.models.fuse"} <= set(shared)
    for name in shared:
        assert all(used in shared or used.startswith("CyDAS.models.native") for used in IMPORTS[name]), name
