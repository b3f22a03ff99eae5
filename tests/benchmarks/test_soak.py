"""The soak in small: every command killed, torn, on a full disk, continued; and it would notice a loss."""

import pytest
from benchmarks import soak

COMMANDS = [stage.name for stage in soak.STAGES if stage.name != "run"]  # which is all of them


def test_nothing_is_lost(capsys):
    with capsys.disabled():
        rows = soak.soak(12, seed=1, names=COMMANDS, per_trial=2, report=lambda line: None)
    assert list(rows) == COMMANDS
    assert sum(sum(row.faults.values()) for row in rows.values()) == 12
    for name, row in rows.items():
        assert row.wrong == [], name
        assert row.survived == row.trials > 0
        assert sum(row.faults.values()) > 0
        assert row.bytes_lost == 0
        assert row.slowest_stop < 30
    assert "all (12 faults)" in soak.table(rows)


@pytest.mark.parametrize(
    ("found", "count", "names"),
    [
        ({"a": b"xyz", "b/": b""}, 0, []),
        ({"a": b"xYz", "b/": b""}, 1, ["a"]),
        ({"a": b"x", "b/": b""}, 2, ["a"]),
        ({"b/": b""}, 3, ["a"]),
        ({"a": b"xyz"}, 0, ["b/"]),
        ({"a": b"xyz", "b/": b"", ".a.tmp": b"xy"}, 2, [".a.tmp"]),
    ],
)
def test_losses_are_counted(found, count, names):
    assert soak.lost({"a": b"xyz", "b/": b""}, found) == (count, names)


def test_what_depends_on_time_is_not_compared(tmp_path):
    for folder, seconds in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "summary.json").write_text(
            f'{{"x": {{"fd": 1, "seconds_per_1000": {seconds}}}}}'
        )
        (tmp_path / folder / "log.jsonl").write_text(str(seconds))
        for images in (8 * seconds, 24):
            (tmp_path / folder / f"state-{images:012d}.pt").write_text(str(images))
    assert soak.results(tmp_path / "a") == soak.results(tmp_path / "b")
    (tmp_path / "b" / "summary.json").write_text('{"x": {"fd": 2, "seconds_per_1000": 1}}')
    assert soak.results(tmp_path / "a") != soak.results(tmp_path / "b")
