"""The walk through the code, for contributors, is the way that data take."""

import re
import sys
import threading
from pathlib import Path

import pytest

from mrigen.cli.main import run

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "recipes" / "tiny.yaml"
WALK = (ROOT / "docs" / "walk.md").read_text()
WAYS = {
    part.splitlines()[0]: re.findall(r"^\| `(mrigen/[\w/]+\.py): ([\w.]+)` \|", part, re.MULTILINE)
    for part in WALK.split("\n## ")[1:]
}


@pytest.fixture(scope="module")
def called(tmp_path_factory):
    """The functions of the package that a tiny training and a tiny sampling call."""
    seen = set()

    def note(frame, event, _):
        if event == "call":
            seen.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    out = tmp_path_factory.mktemp("walk") / "run"
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        assert run(["train", str(TINY), "--out", str(out), "--device", "cpu"]) == 0
        model, store, images = (str(out / part) for part in ("teacher/model", "store", "samples.h5"))
        command = ["sample", model, "--maps", store, "--seeds", "0-1", "--steps", "2", "--out", images]
        assert run([*command, "--device", "cpu"]) == 0
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    ours = {(Path(file), name) for file, name in seen if file.startswith(f"{ROOT}/mrigen")}
    return {(str(path.relative_to(ROOT)), name) for path, name in ours}


def test_every_way_has_at_most_ten_stops():
    assert [len(stops) for stops in WAYS.values()] == [10, 9]
    assert WALK.count("\n| `") == 19


@pytest.mark.parametrize("way", list(WAYS))
def test_every_stop_is_on_the_way(way, called):
    assert [stop for stop in WAYS[way] if stop not in called] == []
