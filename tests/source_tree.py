"""The source files of both packages and who imports whom, read from the syntax trees; nothing is imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = {"diffseg": REPOSITORY / "src_core" / "diffseg", "napari_diffseg": REPOSITORY / "napari_diffseg"}


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name; a package stands for its `__init__`."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"), filename=str(modules()[module]))


@cache
def imports(module: str, typing_too: bool = True) -> frozenset[str]:
    """Full names that a module imports, at its top or inside a function: `a.b.c` for `from a.b import c`.

    With `typing_too` false, imports under `if TYPE_CHECKING:` are left out, as they never happen at run time.
    """
    return frozenset(_imports(tree(module), module, typing_too))


def _imports(node: ast.AST, module: str, typing_too: bool) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(child, module)
            yield from (f"{base}.{alias.name}" for alias in child.names)
        elif isinstance(child, ast.If) and not typing_too and "TYPE_CHECKING" in ast.unparse(child.test):
            for statement in child.orelse:
                yield from _imports(statement, module, typing_too)
        else:
            yield from _imports(child, module, typing_too)


def _absolute(node: ast.ImportFrom, module: str) -> str:
    if not node.level:
        return node.module or ""
    is_package = modules()[module].name == "__init__.py"
    parts = module.split(".")
    base = parts[: len(parts) - node.level + is_package]
    return ".".join([*base, *([node.module] if node.module else [])])


@cache
def own_imports(module: str) -> frozenset[str]:
    """Modules of ours that a module imports at run time; `from a.b import c` is `a.b.c` if that is one."""
    found = set()
    for name in imports(module, typing_too=False):
        parts = name.split(".")
        candidates = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
        found.update(next(([one] for one in candidates if one in modules()), []))
    return frozenset(found - {module})


def root(name: str) -> str:
    return name.partition(".")[0]
