"""The pages are built without a warning and ask nobody for anything; the examples are not run here."""

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "examples", "recipes/slurm")
NEEDED += ("benchmarks/README.md", "benchmarks/figures", "mrigen/assets/models")
LEFT_OUT = shutil.ignore_patterns("_build", "auto_examples", "runs", "__pycache__")
LOADED = re.compile(r'<(?:script|img|iframe|source)\b[^>]*?\ssrc="([^"]+)"|<link\b[^>]*?\shref="([^"]+)"')

pytestmark = pytest.mark.skipif(
    not all(map(find_spec, ("sphinx", "myst_parser", "sphinx_gallery", "furo"))),
    reason="pip install 'mrigen[docs]'",
)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The built pages, with their texts."""
    copy = tmp_path_factory.mktemp("pages")
    for name in NEEDED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=LEFT_OUT)
        else:
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy / name)
    out = copy / "html"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going"]
    command += ["-D", "sphinx_gallery_conf.plot_gallery=0", "-b", "html", str(copy / "docs"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path: path.read_text() for path in out.rglob("*.html")}


def test_pages_are_complete(pages):
    stems = {path.stem for path in pages}
    assert {"index", "api", "commands", "papers", "quality", "speed", "robustness"} <= stems
    api = next(text for path, text in pages.items() if path.stem == "api")
    names = ["mrigen.train", "mrigen.espirit", "mrigen.MultiCoilMRI", "mrigen.masks.exact_random"]
    names += [
        "mrigen.operators.masks.MaskDistribution",
        "mrigen.prep.readers.Reader",
        "mrigen.objectives.Objective",
    ]
    for name in names:
        assert f'id="{name}"' in api


def test_pages_load_nothing_from_elsewhere(pages):
    for path, text in pages.items():
        loaded = [a or b for a, b in LOADED.findall(text)]
        assert [url for url in loaded if re.match(r"(https?:)?//", url)] == [], path
    styles = "".join(path.read_text() for path in next(iter(pages)).parent.rglob("*.css"))
    assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", styles)
