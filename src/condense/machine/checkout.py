"""Whether the package runs from a checkout of the project, or is installed by itself with copies of what it
needs from one."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# How jobs are sent to a cluster; in the checkout and in the package
PROFILE = Path("workflow/profiles/slurm/config.yaml")


def checkout() -> Path | None:
    """The checkout that this package runs from (an editable installation, or `src` on the path); None if it
    is installed by itself."""
    root = _PACKAGE.parent.parent
    marks = (root / "Snakefile").is_file() and (root / "params" / "methods").is_dir()
    return root if _PACKAGE.parent.name == "src" and marks else None


def project_file(path: Path) -> Path:
    """A file or folder of the project, given as in the checkout: there, else its copy in the package
    (see pyproject.toml)."""
    return (checkout() or _PACKAGE) / path
