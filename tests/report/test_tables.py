"""Tables fit into a terminal of 80 columns."""

import io

import pytest
from rich.console import Console

from mrigen.report.tables import rows_table


@pytest.mark.parametrize("sets", [1, 2])
def test_many_numbers_keep_their_names(sets):
    quantiles = {f"quantile_0.{q}": q / 7 for q in (5, 9, 95, 99, 999)}
    numbers = {"n": 100, **quantiles, "fd": 1.25, "fd_interval": [1.0, 2.0]}
    rows = [{"samples": f"set{i}", **numbers} for i in range(sets)]
    console = Console(file=io.StringIO(), width=80)
    console.print(rows_table(rows, "title"))
    text = console.file.getvalue()
    for name in ("quantile_0.5", "quantile_0.999", "set0", "1.25 [1, 2]"):
        assert name in text
    assert max(map(len, text.splitlines())) <= 80
