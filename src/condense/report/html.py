"""The report: one HTML file with every table, figure and grid, and where they come from. It loads nothing
from elsewhere."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from condense import files, plan
from condense.config import UserError
from condense.files import artifacts
from condense.plan import manifests
from condense.plan.tables import Plan
from condense.report import curves, fair, figures, grids, names, opening, printed, provenance, readings
from condense.report.layout import Block, blocks
from condense.report.records import records
from condense.report.samples import first_of_each_class
from condense.report.speed import speeds

GRID_BUDGET = 3 << 20  # bytes of grids shown; the others are named only
_USUAL_IPC = 10


@dataclass(frozen=True)
class Table:
    """A table as the page shows it: what was measured, what was published, and what stands beside what was
    measured, in blocks of rows; `files` are links to it in other forms."""

    anchor: str
    title: str
    note: str
    measured: list[Block]
    published: list[Block]
    beside: list[Block]  # what stands beside what was measured
    files: str
    cost: str  # what its numbers took to compute


@dataclass(frozen=True)
class Picture:
    """`source` is a data URI."""

    anchor: str
    title: str
    source: str
    alt: str
    notes: list[str]


def make_report(scale: Plan, out: Path, *, folder: Path = Path(plan.RESULTS), so_far: str = "") -> None:
    """Writes the report of a scale as one HTML file.

    Needs the metrics of all its tables and, in `folder`, the finished files of all its figures. `so_far`: of
    a scale that is not finished, how far it is. Raises UserError naming what is missing, a figure that was
    made for another scale, or a set that is damaged.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["duration"] = provenance.duration
    _check_sets(scale)
    template = environment.from_string(
        resources.files("condense.report").joinpath("template.html").read_text(encoding="utf-8")
    )
    shown, hidden = _grids(scale)
    first = opening.summary(scale)
    text = template.render(
        style=Markup(resources.files("condense.report").joinpath("template.css").read_text(encoding="utf-8")),
        scale=scale.scale,
        so_far=so_far,
        facts=_facts(scale),
        stand_ins=_stand_ins(scale),
        papers=_papers(scale),
        summary=_uri("image/svg+xml", first[0]) if first else "",
        summary_caption=first[1] if first else "",
        fair=fair.comparisons(scale),
        tables=[_table(scale, name) for name in names.in_order([*scale.tables, *scale.settings])],
        figures=[
            _figure(scale, name, folder)
            for name in names.in_order(scale.figures)
            if scale.figures[name].curves or scale.figures[name].spec.computed
        ],
        grids=shown,
        hidden_grids=hidden,
        origin=provenance.origin(scale),
        stages=provenance.stages(Path(plan.RESULTS) / "benchmarks"),
        speeds=speeds(Path(plan.RESULTS) / "benchmarks"),
        sets=provenance.sets(scale),
        not_run=provenance.not_run(scale),
    )
    with artifacts.whole(out) as draft:
        draft.write_text(text, encoding="utf-8")


def _check_sets(scale: Plan) -> None:
    """Raises UserError for a set that is damaged. All of it is read only where it is younger than an
    evaluation of it, which read it."""
    judged: dict[str, float] = {}
    for cell in scale.metrics.values():
        if Path(cell.path).is_file():
            at = Path(cell.path).stat().st_mtime
            judged |= {image_set.path: min(at, judged.get(image_set.path, at)) for image_set in cell.all_sets}
    for path in [Path(cell.path) for cell in scale.synthetic.values() if not cell.data.is_part]:
        if path.is_file():
            changed = path.stat().st_mtime > judged.get(str(path), 0.0)
            (files.read_set if changed else artifacts.read_header)(path, "synthetic")
        elif path.exists():
            raise artifacts.damaged(path, "it is no plain file")


def _facts(scale: Plan) -> list[tuple[str, str]]:
    """Numbers for the head of the page: (how many, of what)."""
    datasets = dict.fromkeys(names.dataset(cell.name) for cell in scale.data.values() if not cell.is_part)
    networks = sum(cell.n_networks for cell in scale.metrics.values())
    methods = {cell.synthetic.recipe.name for cell in scale.metrics.values()}
    counts = [
        (len(scale.tables) + len(scale.settings), "tables"),
        (len(scale.figures), "figures"),
        (len(methods), "methods"),
    ]
    sets = [cell for cell in scale.synthetic.values() if not cell.data.is_part]
    counts += [(len(sets), "synthetic sets"), (networks, "networks tested")]
    return [(", ".join(datasets) or "none", "data")] + [(f"{count:,}", unit) for count, unit in counts]


def _stand_ins(scale: Plan) -> list[str]:
    run: dict[str, dict[str, None]] = {}
    for target in scale.targets:
        for name, entries in scale.datasets_of(target).items():
            run.setdefault(name, {}).update(
                dict.fromkeys(entry for entry in entries if name not in (entry, names.copied(entry)))
            )
    return [
        f"{names.dataset(name)} by {', '.join(map(names.dataset, stand_ins))}"
        for name, stand_ins in run.items()
        if stand_ins
    ]


def _papers(scale: Plan) -> list[tuple[str, str]]:
    keys = dict.fromkeys(name.partition("/")[0] for name in scale.targets)
    return [(key.upper(), names.PAPERS.get(key, key)) for key in keys]


def _table(scale: Plan, name: str) -> Table:
    spec = scale.specs_by_path()[name]
    anchor, heading = name.replace("/", "-"), names.heading(name, spec.title)
    files = f"tables/{name}.csv, .md, .tex"
    if name in scale.settings:
        settings = printed.of_settings(scale, name)
        return Table(anchor, heading, scale.note_of(name), settings, [], [], files, cost="")
    rows = records(scale, name)
    parts = blocks(scale, rows)
    measured, published = ([block for block in parts if block.measured is wanted] for wanted in (True, False))
    return Table(
        anchor,
        heading,
        scale.note_of(name),
        measured,
        published,
        [*fair.of_table(scale, rows), *readings.of_table(rows)],
        files,
        provenance.cost(scale, name),
    )


def _figure(scale: Plan, name: str, folder: Path) -> Picture:
    """The figure's finished file, SVG or PNG, whichever is smaller. Its own text holds the notes."""
    base = folder / "figures" / name
    note = base.with_suffix(".json")
    making = f"`snakemake --cores all {base}.png --config scale={scale.scale.name}`"
    if not note.is_file():
        raise UserError(f"{base}.png: this figure is missing; make it first: {making}")
    if artifacts.read_json(note) != manifests.manifest(scale, name):
        raise UserError(f"{base}.png: made for another scale or from other results; make it anew: {making}")
    kinds = [
        ("image/svg+xml", base.with_suffix(".svg").read_bytes()),
        ("image/png", base.with_suffix(".png").read_bytes()),
    ]
    kind, content = min(kinds, key=lambda entry: len(entry[1]))
    spec = scale.figures[name].spec
    notes = [scale.note_of(name)] if scale.note_of(name) else []
    panels = dict.fromkeys(
        curves.title_of(scale, spec, curve.dataset).replace("\n", ", ")
        for curve in scale.figures[name].curves
    )
    alt = f"{spec.title}. {'; '.join(panels)}. {' '.join(figures.footnotes(scale, name))}"
    return Picture(name.replace("/", "-"), names.heading(name, spec.title), _uri(kind, content), alt, notes)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode('ascii')}"


def _grids(scale: Plan) -> tuple[list[Picture], list[str]]:
    """The grid of one set a method and dataset, at 10 images per class or the nearest to it, and the paths of
    those left out."""
    chosen: dict[tuple[str, str], plan.SyntheticCell] = {}
    for cell in scale.synthetic.values():
        if cell.data.is_part:
            continue
        pair = (cell.data.name, cell.recipe.name)
        if cell.seed == 0 and (pair not in chosen or _far(cell) < _far(chosen[pair])):
            chosen[pair] = cell
    shown, left_out, spent = [], [], 0
    for cell in chosen.values():
        path = _grid(cell)
        if not path.is_file() or spent + path.stat().st_size > GRID_BUDGET:
            left_out.append(str(path))
            continue
        spent += path.stat().st_size
        dataset, method = names.dataset(cell.data.name), names.method(cell.recipe.name)
        title = f"{method}, {cell.ipc} image{'s' * (cell.ipc != 1)} per class, {dataset}"
        alt = f"Real images on the left, synthetic ones on the right: {title}"
        shown.append(
            Picture(f"grid-{cell.key}", title, _uri("image/png", path.read_bytes()), alt, [str(path)])
        )
    return shown, left_out


def _grid(cell: plan.SyntheticCell) -> Path:
    """The grid of a set. Of one that was taken from kept/, where no grids are, it is drawn now, if the real
    images are here."""
    path, data = Path(cell.folder) / "grid.png", Path(cell.data.train)
    if not path.is_file() and Path(cell.path).is_file() and data.is_file():
        tensors, header = files.read_set(Path(cell.path))
        real, labels = first_of_each_class(data, grids.MOST_IMAGES)
        grids.draw_grid(path, tensors["images"], tensors["labels"], real, labels, header["class_names"])
    return path


def _far(cell: plan.SyntheticCell) -> int:
    return abs(cell.images_a_class - _USUAL_IPC)
