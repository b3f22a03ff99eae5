"""Classes of a user's file for each of the seven registries, and entry points of installed packages."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

import mrigen
from mrigen import plugins
from mrigen.checkpoints.description import read_description
from mrigen.cli.main import run
from mrigen.diffusion.objectives import OBJECTIVES
from mrigen.diffusion.samplers import SAMPLERS
from mrigen.errors import UsageError
from mrigen.losses import LOSSES
from mrigen.networks import NETWORKS
from mrigen.operators.corruption import CORRUPTIONS, make_corruption
from mrigen.operators.masks import MASKS

TINY = Path(__file__).parents[1] / "recipes" / "tiny.yaml"

MASK = """
    import torch
    from mrigen.operators.masks import MaskLaw

    class Mine(MaskLaw):
        '''Every second line, and the ACS.'''

        class Params(MaskLaw.Params):
            first: int = 0

        def draw(self, acquired, generator):
            lines = torch.arange(acquired.shape[1]) % 2 == self.params.first
            return (lines | self.acs(1, acquired.shape[1])) & acquired
"""
OPERATOR = """
    from mrigen.operators import Identity, ImageCorruption
    from mrigen.registry import Params

    class Mine(ImageCorruption):
        '''Nothing happens.'''

        class Params(Params):
            unused: int = 0

        reason = "nothing is hidden"

        def draw(self, batch, generator):
            return Identity(self.zeros(batch))
"""
OBJECTIVE = """
    from mrigen.diffusion.objectives.ambient import Ambient

    class Mine(Ambient):
        '''Twice the ambient loss.'''

        def __call__(self, denoiser, batch, generator):
            return 2 * super().__call__(denoiser, batch, generator)
"""
LOSS = """
    from mrigen.losses.sid import SiD, SiDParams

    class Mine(SiD):
        '''SiD, scaled.'''

        class Params(SiDParams):
            factor: float = 0.5

        def at(self, teacher, fake, given):
            return self.params.factor * super().at(teacher, fake, given)
"""
SAMPLER = """
    from mrigen.diffusion.samplers.base import Sampler

    class Mine(Sampler):
        '''Jump to the estimate at once.'''

        def step(self, teacher, x, sigma, sigma_next, number):
            estimate = teacher.predict(x, sigma)
            return estimate + sigma_next / sigma * (x - estimate)

        def cost(self, *, last):
            return 1
"""
SOLVER = """
    from mrigen.inverse import Solver, SolverParams, State

    class Mine(Solver):
        '''The adjoint times a factor.'''

        class Params(SolverParams):
            factor: float = 2.0

        def start(self, task):
            return State(task.blank())

        def step(self, task, state, number):
            return State(self.params.factor * task.linear.adjoint(task.data.y))
"""
NETWORK = """
    from torch import nn
    from mrigen.networks import Network
    from mrigen.networks.base import NetworkParams

    class Mine(Network):
        '''One convolution.'''

        class Params(NetworkParams):
            kernel: int = 3

        def __init__(self, params):
            super().__init__(params)
            k = params.kernel
            self.layer = nn.Conv2d(params.in_channels, params.out_channels, k, padding=k // 2)

        def forward(self, x, noise, labels=None, augment=None):
            return self.layer(x)
"""


@pytest.fixture
def write(tmp_path):
    """Write a file of a user and return the name of its class."""

    def write(text, name="mine.py"):
        (tmp_path / name).write_text(textwrap.dedent(text))
        return f"{tmp_path / name}:Mine"

    return write


def test_mask(write):
    name = write(MASK)
    mask = mrigen.masks.draw(name, 12, acceleration=2, acs_lines=2, first=1)
    assert mask.tolist() == [i % 2 == 1 or i in (5, 6) for i in range(12)]
    with pytest.raises(UsageError, match="second: unknown key"):
        MASKS.build({"name": name, "second": 2})


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
    torch.testing.assert_close(x, A.visible(3 * A.H(data.y)))


def test_network(write):
    spec = NETWORKS.freeze({"name": write(NETWORK), "resolution": 8, "in_channels": 3, "out_channels": 2})
    network = NETWORKS.build(json.loads(json.dumps(spec)))
    assert network(torch.zeros(1, 3, 8, 8), torch.zeros(1)).shape == (1, 2, 8, 8)


@pytest.mark.parametrize(("registry", "text"), [(SAMPLERS, SAMPLER), (LOSSES, LOSS), (OBJECTIVES, OBJECTIVE)])
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
        textwrap.dedent(MASK).replace(
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
