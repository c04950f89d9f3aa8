"""Tables as files: CSV for programs, Markdown and LaTeX for people, and the list of what they were made
from."""

from __future__ import annotations

import csv
from pathlib import Path

from condense.config import UserError
from condense.files import artifacts
from condense.plan import manifests
from condense.plan.tables import Plan
from condense.report import fair, names, printed, readings
from condense.report.layout import Block, Cell, Line, blocks
from condense.report.measured import TABLE_COLUMNS
from condense.report.records import records

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
}
_LEGEND = "ipc: images per class."


def make_table(scale: Plan, name: str, out_csv: Path) -> None:
    """Writes the table `name` (such as 'cpdm/table1') as `out_csv` and, beside it, as .md, .tex and, last,
    its manifest .json.

    Raises UserError for an unknown table, a target that is no .csv, and missing or damaged metrics.
    """
    out_csv = Path(out_csv)
    if out_csv.suffix != ".csv":
        raise UserError(f"{out_csv}: the name of a table's file must end in .csv")
    columns, rows, parts = _content(scale, name)
    spec = scale.specs_by_path()[name]
    with artifacts.whole(out_csv) as draft, open(draft, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    title, note = names.heading(name, spec.title), scale.note_of(name)
    for suffix, text in (
        (".md", markdown(title, note, parts)),
        (".tex", latex(title, note, parts)),
    ):
        with artifacts.whole(out_csv.with_suffix(suffix)) as draft:
            draft.write_text(text, encoding="utf-8")
    artifacts.write_json(out_csv.with_suffix(".json"), manifests.manifest(scale, name))


def _content(scale: Plan, name: str) -> tuple[list[str], list[dict[str, str]], list[Block]]:
    """The columns and rows of a table as CSV, and its blocks."""
    if name in scale.settings:
        return printed.COLUMNS, printed.csv_rows(scale, name), printed.of_settings(scale, name)
    rows = records(scale, name)
    made = blocks(scale, rows)
    parts = [block for block in made if block.measured]
    parts += [*fair.of_table(scale, rows), *readings.of_table(rows)]
    parts += [block for block in made if not block.measured]
    return TABLE_COLUMNS, [record.values for record in rows], parts


def _pattern(block: Block, published: str) -> str:
    """How a published number is written: plainly where the block holds no others."""
    return published if block.measured else "{}"


def cell_text(cells: list[Cell], measured: str, published: str, empty: str = "–") -> str:
    """The cells of one row and column; `measured` and `published` are patterns whose '{}' the numbers
    fill."""
    texts = []
    for cell in cells:
        parts = [measured.format(cell.measured)] if cell.measured else []
        parts += [published.format(cell.published)] if cell.published else []
        texts.append(" ".join(parts))
    return "; ".join(text for text in texts if text) or empty


def markdown(title: str, note: str, parts: list[Block]) -> str:
    """The table as Markdown."""
    lines = [f"# {title}", "", _LEGEND, *([note] if note else []), ""]
    for block in parts:
        paper = _pattern(block, "(paper {})")
        lines += [f"## {block.title}", "", block.caption, "", _markdown_row([block.head, *block.columns])]
        lines += ["|---|" + "---:|" * len(block.columns)]
        for heading, rows in block.groups:
            lines += [_markdown_row([f"*{heading}*", *[""] * len(block.columns)])] if heading else []
            lines += [
                _markdown_row([row.label, *(cell_text(cells, "**{}**", paper) for cells in row.cells)])
                for row in rows
            ]
        lines += ["", *[f"- {text}" for text in [*block.footnotes, *block.remarks]], ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_row(texts: list[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def latex(title: str, note: str, parts: list[Block]) -> str:
    """The table as LaTeX `table` environments, one for each block; needs the package booktabs."""
    lines = [r"% needs \usepackage{booktabs}", f"% {title}", ""]
    for block in parts:
        count, paper = len(block.columns), _pattern(block, r"{{\footnotesize (paper {})}}")
        # The block's own title comes first: it says what was measured, where the paper's title may name
        # another dataset.
        sentences = [
            f"{block.title}.",
            block.caption,
            f"Laid out as {title}.",
            note,
            _LEGEND,
            *block.footnotes,
        ]
        caption = " ".join(text for text in sentences if text)
        lines += [r"\begin{table}", r"\centering", r"\caption{" + escape_latex(caption) + "}"]
        lines += [r"\begin{tabular}{l" + "r" * count + "}", r"\toprule"]
        lines += [_latex_row([block.head, *map(escape_latex, block.columns)]), r"\midrule"]
        for index, (heading, rows) in enumerate(block.groups):
            lines += [r"\midrule"] if index else []
            lines += (
                [rf"\multicolumn{{{count + 1}}}{{l}}{{\emph{{{escape_latex(heading)}}}}} \\"]
                if heading
                else []
            )
            lines += [_latex_line(row, paper) for row in rows]
        lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _latex_line(row: Line, paper: str) -> str:
    cells = [
        cell_text([_escaped(cell) for cell in cells], r"\textbf{{{}}}", paper, "--") for cells in row.cells
    ]
    return _latex_row([escape_latex(row.label), *cells])


def _escaped(cell: Cell) -> Cell:
    return Cell(*(escape_latex(text) for text in (cell.measured, cell.published, cell.delta, cell.gain)))


def _latex_row(texts: list[str]) -> str:
    return " & ".join(texts) + r" \\"


def escape_latex(text: str) -> str:
    """`text` with every character that LaTeX would read as a command written out."""
    return "".join(_LATEX.get(character, character) for character in text)
