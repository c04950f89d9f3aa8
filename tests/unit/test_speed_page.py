"""What `make bench` wrote, as the report shows it."""

import pytest

from condense.config import UserError
from condense.files.artifacts import write_json
from condense.report.speed import speeds

ROW = {
    "row": "DM iteration, ipc 10",
    "reference_s": 2.8741,
    "settled_s": 1.2,
    "ours_s": 0.5,
    "ratio": 5.71,
    "ratio_range": [5.1, 6.04],
    "ratio_settled": 2.4,
    "least": 5,
    "aim": 8,
    "peak_memory_bytes": 900 << 20,
    "memory_growth_bytes": 2 << 20,
    "gradient": {"relative": 0.0023, "cosine": 0.999997, "augmentation": 0.0},
}
FOUND = {
    "schema": 1,
    "kind": "benchmark",
    "device": "CPU: a name",
    "threads": 2,
    "date": "2026-01-31",
    "torch": "2.11.0",
    "kernels": "compiled",
    "images": "noise",
    "limits": {"convolution_bfloat16_gflops": 1010.4, "copy_gb_s": 45.2},
    "rows": [ROW, {name: value for name, value in ROW.items() if name != "gradient"}],
    "accuracy": {
        "goal": 47.5,
        "runs": [{"run": "r", "seconds": 90, "steps": 1200, "accuracies": [46.0, 47.0]}],
    },
}


def test_numbers_are_shown_with_their_units(tmp_path):
    write_json(tmp_path / "engine.json", FOUND)
    (speed,) = speeds(tmp_path)
    first, second = speed.lines
    assert (first.plain, first.ours, first.ratio, first.settled, first.asked) == (
        "2,874",
        "500",
        "5.7× (5.1–6.0)",
        "2.4×",
        "5× / 8×",
    )
    assert (first.gradient, second.gradient, first.memory) == ("0.23 %, cosine 1.0000", "–", "900 (+2)")
    assert speed.limits == [("convolution bfloat16, GFLOP/s", "1,010"), ("copy, GB/s", "45")]
    assert speed.accuracies == [("r", "90", "1,200", "46.5 (46.0, 47.0)")]
    assert speed.about == "2026-01-31, 2 threads, torch 2.11.0, kernels: compiled, images: noise"


def test_without_a_benchmark_there_is_nothing_to_show_and_another_file_is_refused(tmp_path):
    assert speeds(tmp_path) == []
    write_json(tmp_path / "engine.json", {"kind": "metrics"})
    with pytest.raises(UserError, match="is no benchmark"):
        speeds(tmp_path)
