"""`python -m condense.estimate.counting` counts what one image costs in the networks of the scales, and
writes `networks.csv`, and beside it the names of all architectures."""

from __future__ import annotations

from condense import models
from condense.plan import ParentCell, SyntheticCell
from condense.plan.tables import Plan
from condense.specs import catalogue
from condense.specs.costs.networks import NAMES, Network, write_table
from condense.training.counting import count


def networks_of_scales() -> set[Network]:
    """All networks that the jobs of the scales in `params/` use."""
    networks: set[Network] = set()
    for name in catalogue.names_in("scales"):
        plan = Plan(name)
        cells: list[SyntheticCell | ParentCell] = [*plan.synthetic.values(), *plan.parents.values()]
        pairs = {(cell.arch, cell.options, cell.data.key): cell.data for cell in cells if cell.arch != "none"}
        pairs |= {
            (cell.eval_arch, cell.options, cell.synthetic.data.key): cell.synthetic.data
            for cell in plan.metrics.values()
        }
        networks |= {
            (arch, options, data.spec.channels, data.spec.size, data.spec.classes)
            for (arch, options, _), data in pairs.items()
        }
    return networks


if __name__ == "__main__":
    NAMES.write_text("\n".join([*models.architecture_names(), ""]), encoding="utf-8")
    write_table({network: count(*network) for network in networks_of_scales()})
