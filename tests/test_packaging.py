"""The layout is what pyproject says, and dependencies point one way."""

from __future__ import annotations

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ovs_edge

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli", reason="Python 3.10 has no tomllib, and tomli is not installed")

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name not in {"api", "build"})
PACKAGES = sorted(
    ".".join(path.parent.relative_to(ROOT).parts) for folder in FOLDERS for path in (ROOT / folder).rglob("__init__.py")
)

# Who may import whom, besides itself. Everything may import `bundle`, which imports none of them.
ALLOWED = {
    "bundle": set(),
    "models": {"bundle"},
    "segmenter": {"bundle"},
    "data": {"bundle", "runtime"},
    "training": {"bundle", "segmenter", "models", "runtime", "data"},
    "runtime": {"bundle", "models"},
    "export": {"bundle", "segmenter", "runtime"},
    "label": {"bundle", "models", "runtime"},
    "serving": {"bundle", "models", "runtime"},
    "calibration": {"bundle", "data", "runtime"},
    "benchmarks": {"bundle", "segmenter", "data", "training", "runtime", "export", "models", "serving"},
}
STANDARD = set(sys.stdlib_module_names)


def _imports(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports, wherever in it; relative imports are resolved by path.

    Of `from .x import y`, both `x` and `x.y`: `y` may be a module.
    """
    package = ("ovs_edge", *path.relative_to(ROOT).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *(node.module.split(".") if node.module else ())))
            found |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return found


def test_every_folder_is_packaged_typed_and_linked() -> None:
    setuptools = PROJECT["tool"]["setuptools"]
    assert sorted(setuptools["packages"]) == ["ovs_edge", *(f"ovs_edge.{package}" for package in PACKAGES)]
    assert setuptools["package-dir"] == {"ovs_edge": "api", **{f"ovs_edge.{folder}": folder for folder in FOLDERS}}
    assert [folder for folder in FOLDERS if not (ROOT / folder / "py.typed").is_file()] == []
    # What editors and mypy see: links to the folders under the name of the package.
    links = {path.name: path.resolve() for path in (ROOT / "typings" / "ovs_edge").iterdir()}
    assert {name: links.get(name) for name in FOLDERS} == {name: ROOT / name for name in FOLDERS}
    assert links["__init__.py"] == ROOT / "api" / "__init__.py"
    assert sorted(ALLOWED) == FOLDERS


@pytest.mark.parametrize("folder", FOLDERS)
def test_dependencies_point_one_way(folder: str) -> None:
    allowed = {f"ovs_edge.{name}" for name in ALLOWED[folder] | {folder}}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for name in _imports(path):
            if name.startswith("ovs_edge"):
                assert ".".join(name.split(".")[:2]) in allowed, f"{path.name} imports {name}"


def test_the_shared_artefact_needs_numpy_and_pyyaml_alone() -> None:
    for path in sorted((ROOT / "bundle").rglob("*.py")):
        outside = {name.split(".")[0] for name in _imports(path)} - STANDARD - {"numpy", "yaml", "ovs_edge"}
        assert not outside, f"{path.name} imports {outside}"


@pytest.mark.parametrize(("command", "target"), sorted(PROJECT["project"]["scripts"].items()))
def test_console_scripts_exist(command: str, target: str) -> None:
    module, function = target.split(":")
    assert callable(getattr(importlib.import_module(module), function)), command


def test_public_names_resolve_and_editors_see_them() -> None:
    assert all(getattr(ovs_edge, name) is not None for name in ovs_edge.__all__)
    tree = ast.parse((ROOT / "api" / "__init__.py").read_text(encoding="utf-8"))
    (typed,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    names = {alias.name for node in typed.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names | {"__version__"} == set(ovs_edge.__all__)


def test_every_dependency_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    body = text[text.index("dependencies = [") : text.index("[project.scripts]")]
    for line in body.splitlines():
        # A list of ovs-edge's own extras needs no reason; a package does.
        if re.search(r'"(?!ovs-edge)[A-Za-z][\w-]*[<>=]', line):
            assert "#" in line, line


def test_modules_stay_small() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for folder in ("api", "tests", *FOLDERS)
        for path in (ROOT / folder).rglob("*.py")
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > 400
    }
    assert long == {}


def test_folders_stay_small() -> None:
    counts = {package: len(list((ROOT / package.replace(".", "/")).glob("*.py"))) for package in PACKAGES}
    assert {package: count for package, count in counts.items() if count > 14} == {}


def test_every_import_of_ours_names_a_file() -> None:
    """So editors follow it by path, without an installation."""
    missing = []
    for folder in ("api", "tests", "examples", *FOLDERS):
        for path in sorted((ROOT / folder).rglob("*.py")):
            package = ("ovs_edge", *path.relative_to(ROOT).parts[:-1])
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [
                        ".".join(
                            (
                                *package[: len(package) - node.level + 1 if node.level else 0],
                                *filter(None, [node.module]),
                            )
                        )
                    ]
                else:
                    continue
                missing += [f"{path.relative_to(ROOT)}: {name}" for name in names if not _is_file_or_theirs(name)]
    assert missing == []


def _is_file_or_theirs(name: str) -> bool:
    first, *rest = name.split(".")
    if first not in ("ovs_edge", "support"):
        return True
    root = ROOT / "tests" / "support" if first == "support" else ROOT
    place = root.joinpath(*rest) if rest else ROOT / "api"
    return place.is_dir() or place.with_suffix(".py").is_file()


def test_no_import_cycle() -> None:
    """Also none of imports inside functions or for type checkers alone."""
    modules = {
        ".".join(("ovs_edge", *path.relative_to(ROOT).with_suffix("").parts)): path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }
    graph = {name: {found for found in _imports(path) if found in modules} - {name} for name, path in modules.items()}
    while leaves := {name for name, found in graph.items() if not found}:
        graph = {name: found - leaves for name, found in graph.items() if name not in leaves}
    assert graph == {}


def test_public_classes_have_names_of_their_own() -> None:
    places: dict[str, list[str]] = {}
    for path, tree in _trees():
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(path)
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def _trees() -> Iterator[tuple[str, ast.Module]]:
    """Path and syntax tree of every module of the package."""
    for folder in ("api", *FOLDERS):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def test_functions_take_at_most_eight_parameters() -> None:
    many = {
        f"{path}: {node.name}": count
        for path, tree in _trees()
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (count := len(_parameters(node.args))) > 8
    }
    assert many == {}


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [argument for argument in named if argument.arg not in ("self", "cls")]
