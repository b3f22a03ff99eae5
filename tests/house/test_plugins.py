"""Classes of a user's file for each of the seven registries, and entry points of installed packages."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mrigen
from mrigen import plugins
from mrigen.checkpoints.description import read_description
from mrigen.cli.main import run
from mrigen.data.images import write_images
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.diffusion.samplers import SAMPLERS
from mrigen.errors import UsageError
from mrigen.losses import LOSSES
from mrigen.networks import NETWORKS
from mrigen.operators.corruption import CORRUPTIONS, make_corruption
from mrigen.operators.masks import MASKS

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"
SECTIONS = dict(part.split("\n", 1) for part in PAGE.read_text().split("\n## ")[1:])
CODE = {name: text.split("```python\n")[1].split("```")[0] for name, text in SECTIONS.items()}
MASK = CODE["mask over lines"]
POINTS = CODE["mask over points"]
OPERATOR = CODE["operator"]
OBJECTIVE = CODE["objective"]
LOSS = CODE["distillation loss"]
SAMPLER = CODE["sampler"]
SOLVER = CODE["solver"]
NETWORK = CODE["network"]
READER = CODE["reader"]
METRIC = CODE["metric"]
TABLE = {
    cells[1]: int(cells[2])
    for cells in ([c.strip() for c in line.split("|")] for line in PAGE.read_text().splitlines())
    if len(cells) > 3 and cells[2].isdecimal()
}


@pytest.fixture
def write(tmp_path):
    """Write a file of a user and return the name of its class."""

    def write(text, name="mine.py"):
        (tmp_path / name).write_text(text)
        return f"{tmp_path / name}:Mine"

    return write


def test_the_table_counts_the_files_of_the_examples(tmp_path, write):
    assert set(TABLE) == set(CODE)
    for name, text in CODE.items():
        before = set(tmp_path.iterdir())
        write(text, f"{name.replace(' ', '_')}.py")
        assert len(set(tmp_path.iterdir()) - before) == TABLE[name]


def test_mask(write):
    name = write(MASK)
    mask = mrigen.masks.draw(name, 12, acceleration=2, acs_lines=2, first=1)
    assert mask.tolist() == [i % 2 == 1 or i in (5, 6) for i in range(12)]
    with pytest.raises(UsageError, match="second: unknown key"):
        MASKS.build({"name": name, "second": 2})


def test_mask_over_points(write, generator):
    """From the mask to a corruption of several coils, with a mask for each slice."""
    name = write(POINTS)
    mask = mrigen.masks.draw(name, (12, 9), acceleration=1.5, acs_lines=3)
    rows, columns = torch.meshgrid(torch.arange(12), torch.arange(9), indexing="ij")
    centre = ((rows - 6).abs() <= 1) & ((columns - 4).abs() <= 1)
    assert torch.equal(mask, ((rows + columns) % 2 == 0) | centre)
    A = mrigen.operators.MultiCoilMRI.example()
    law = {"name": name, "acceleration": 1.5, "acs_lines": 3}
    store = mrigen.TensorStore(A.H.zero_image(), A.maps, mask, mask_distribution=law)
    drawn = store.corruption().draw(2, generator)
    assert torch.equal(drawn.mask, mask.expand(2, 1, 12, 9))


def test_reader(write, tmp_path, capsys):
    """A store from a file of a format of one's own, continued with the same reader only."""
    kspace = torch.randn(1, 2, 32, 24, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    kspace.numpy().tofile(tmp_path / "scan.raw")
    reader = write(READER)
    command = ["prep-fastmri", str(tmp_path / "scan.raw"), "--out", str(tmp_path / "store"), "--jobs", "1"]
    command += ["--acceleration", "2", "--acs-lines", "8", "--calib-readout", "8", "--kernel-width", "3"]
    assert run([*command, "--reader", reader]) == 0, capsys.readouterr().err
    (volume,) = mrigen.open_store(tmp_path / "store").manifest.volumes
    assert volume.source == "scan.raw"
    assert run(["info", str(tmp_path / "scan.raw"), "--reader", reader]) == 0
    assert "bare k-space" in capsys.readouterr().out
    assert run([*command, "--reader", reader]) == 0
    write(READER + "\n# changed\n")
    assert run([*command, "--reader", reader]) == 2
    assert "reader" in capsys.readouterr().err


def test_metric(write, tmp_path, capsys):
    generator = torch.Generator().manual_seed(0)
    for name, shift in (("a", 0.0), ("b", 0.3)):
        images = torch.rand(6, 1, 8, 8, generator=generator) - 1 + shift
        write_images(tmp_path / f"{name}.h5", list(range(6)), [images])
    out = tmp_path / "numbers.json"
    command = ["evaluate", str(tmp_path / "a.h5"), "--reference", str(tmp_path / "b.h5"), "--device", "cpu"]
    command += ["--features", "pixels,r64", "--bootstrap", "0", "--cache", str(tmp_path / "cache")]
    command += ["--out", str(out), "--metrics"]
    assert run([*command, f"fd,{write(METRIC)}"]) == 0, capsys.readouterr().err
    (row,) = json.loads(out.read_text())["results"]
    assert row["mean_distance"] > 0
    assert row["mean_distance_r64"] > 0
    broken = write(METRIC.replace("needs_features = True", "needs_features = False"), "broken.py")
    assert run([*command, broken]) == 2
    assert "broken.py:10: ValueError while computing the metric" in capsys.readouterr().err


def test_operator(write, generator):
    name = write(OPERATOR)
    corruption = make_corruption({"name": name}, (1, 4, 4))
    x = torch.randn(2, 1, 4, 4, generator=generator)
    assert torch.equal(corruption.draw(2, generator)(x), x)
    assert CORRUPTIONS.freeze({"name": name})["sha256"]


def test_solver(write):
    A = mrigen.MultiCoilMRI.example()
    data = mrigen.Measurements(A(A.zero_image() + 1), A)
    x = mrigen.reconstruct(data, write(SOLVER), factor=3.0)
    torch.testing.assert_close(x, A.within_support(3 * A.H(data.y)))


def test_network(write):
    spec = NETWORKS.freeze({"name": write(NETWORK), "resolution": 8, "in_channels": 3, "out_channels": 2})
    network = NETWORKS.build(json.loads(json.dumps(spec)))
    assert network(torch.zeros(1, 3, 8, 8), torch.zeros(1)).shape == (1, 2, 8, 8)


@pytest.mark.parametrize(
    ("registry", "text"),
    [(SAMPLERS, SAMPLER), (LOSSES, LOSS), (OBJECTIVES, OBJECTIVE)],
)
def test_a_class_of_another_kind_is_refused(registry, text, write):
    assert issubclass(registry[write(text)], registry.base)
    with pytest.raises(UsageError, match=f"Mine is no {registry.base.__name__}"):
        registry[write(SOLVER, "other.py")]


def test_a_study_of_users_classes_is_sampled_by_a_new_process(write, tmp_path, capsys):
    """Mask, network, objective, loss and sampler come from files; a model knows its files."""
    settings = {
        "data.prep.mask": write(MASK, "mask.py") + ":first=1",
        "teacher.network": f"{{name: '{write(NETWORK, 'network.py')}', kernel: 5}}",
        "teacher.objective": f"{{name: '{write(OBJECTIVE, 'objective.py')}'}}",
        "distill.loss": f"{{name: '{write(LOSS, 'loss.py')}'}}",
        "evaluate.sampler": f"{{name: '{write(SAMPLER, 'sampler.py')}', steps: 3}}",
    }
    sets = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    out = tmp_path / "run"
    assert run(["run", str(TINY), "--out", str(out), "--device", "cpu", *sets]) == 0, capsys.readouterr().err
    description = read_description(out / "teacher" / "model")
    for part, file in ((description.network, "network.py"), (description.objective, "objective.py")):
        assert list(part["sha256"]) == [str(tmp_path / file)]
    assert list(description.corruption["mask"]["sha256"]) == [str(tmp_path / "mask.py")]

    def sample(name):
        command = ["sample", str(out / "teacher" / "model"), "--maps", str(out / "store"), "--seeds", "0-1"]
        command += [
            "--sampler",
            settings["evaluate.sampler"].split("'")[1],
            "--steps",
            "2",
            "--device",
            "cpu",
        ]
        code = "import sys; from mrigen.cli.main import run; sys.exit(run(sys.argv[1:]))"
        more = ["--out", str(tmp_path / name)]
        return subprocess.run(
            [sys.executable, "-c", code, *command, *more],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )

    done = sample("a.h5")
    assert done.returncode == 0, done.stderr
    (tmp_path / "network.py").write_text((tmp_path / "network.py").read_text() + "\n# changed\n")
    done = sample("b.h5")
    assert done.returncode == 2
    assert "network.py: changed since network" in done.stderr
    (tmp_path / "network.py").unlink()
    done = sample("c.h5")
    assert done.returncode == 2
    assert "network.py: no such file, but network" in done.stderr
    assert not (tmp_path / "c.h5").exists()


def test_entry_points_of_a_package_register_their_members(tmp_path):
    """A package in the site with an entry point of the group ``mrigen``."""
    (tmp_path / "their_masks.py").write_text(
        MASK.replace(
            "class Mine", "from mrigen.operators.masks import MASKS\n\n@MASKS.register('theirs')\nclass Mine"
        )
    )
    info = tmp_path / "their-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mrigen]\nmasks = their_masks\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from mrigen.cli.main import run;"
        "sys.exit(run(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "list", "masks"], capture_output=True, text=True, check=False
    )
    assert "theirs         Every second line, and the ACS." in done.stdout, done.stderr
    (tmp_path / "their_masks.py").write_text("import no_such_module\n")
    done = subprocess.run(
        [sys.executable, "-c", code, "list", "masks"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "entry point masks = their_masks of their: ModuleNotFoundError" in done.stderr


def test_the_loader_is_the_registries_own(write):
    assert plugins.is_file(write(MASK))
    assert not plugins.is_file("exact-random")
