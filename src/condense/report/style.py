"""How figures look: one style, and for every method a fixed colour (told apart by colour-blind readers) and
marker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zlib import crc32

from condense.files import artifacts
from condense.specs import catalogue
from condense.specs.recipe import Look

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

INK, FAINT, REAL, SYNTHETIC = "#22262e", "#6b7280", "#0072b2", "#d6301d"
# Okabe and Ito's colours, which stay apart for colour-blind readers; the yellow is left out, for it is faint
# on white.
_PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
_MARKERS = "osD^vPX<>"
HATCHES = ("", "///", "...", "xxx", "+++", "ooo", "**", "---", "|||")  # tell apart bars of one colour


def look(method: str) -> dict[str, str]:
    """`color` and `marker` of a method, the same in every figure: those of its recipe, else some that follow
    from its name."""
    given = catalogue.recipe(method).look if method in catalogue.names_in("methods") else None
    number = crc32(method.encode())
    chosen = given or Look(_PALETTE[number % len(_PALETTE)], _MARKERS[number % len(_MARKERS)])
    return {"color": chosen.color, "marker": chosen.marker}


@contextmanager
def style() -> Iterator[Any]:
    """The style of all figures; yields `matplotlib.pyplot` of a backend without windows."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    settings: dict[RcKeyType, object] = {
        "font.family": "DejaVu Sans",  # comes with matplotlib, so text measures the same everywhere
        "font.size": 11,
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 10,
        "axes.labelsize": 11,
        "axes.edgecolor": "#9aa1ab",
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e6e8ec",
        "grid.linewidth": 0.8,
        "lines.linewidth": 2.0,
        "lines.markersize": 6.5,
        "legend.frameon": False,
        "legend.fontsize": 10.5,
        "figure.dpi": 100,
        "savefig.dpi": 160,
        "svg.hashsalt": "condense",  # else the names inside an SVG are drawn anew every time
        "svg.fonttype": "path",
    }
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **settings, "backend": "agg"}):
        yield plt
        plt.close("all")


def svg_bytes(figure: Any) -> bytes:
    """The figure as SVG without a date: equal figures give equal bytes."""
    buffer = BytesIO()
    figure.savefig(
        buffer, format="svg", bbox_inches="tight", pad_inches=0.15, metadata={"Date": None, "Creator": None}
    )
    return buffer.getvalue()


def save(figure: Any, out_png: Path) -> None:
    """Writes the figure as PNG and, beside it, as SVG."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", pad_inches=0.15, metadata={"Software": None})
    for path, content in (
        (Path(out_png), buffer.getvalue()),
        (Path(out_png).with_suffix(".svg"), svg_bytes(figure)),
    ):
        with artifacts.whole(path) as draft:
            draft.write_bytes(content)
