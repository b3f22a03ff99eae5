"""Packaging, start-up and the rules of the house."""

import ast
import graphlib
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "sigpy", "numpy", "scipy", "h5py", "matplotlib")


def python(*arguments, **kwargs):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, **kwargs)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["recipes", "list"],
        ["prep-fastmri", "--help"],
        ["list", "solvers"],
        ["list", "masks", "poisson-disc"],
    ],
)
def test_light_commands_import_nothing_heavy(arguments):
    code = (
        "import sys; from mrigen.cli.main import run; code = run(sys.argv[1:]);"
        f"loaded = [m for m in {HEAVY!r} if m in sys.modules]; print('LOADED', loaded); sys.exit(code)"
    )
    done = python("-c", code, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_what_needs_no_tensors_imports_no_torch(tmp_path):
    """A wrong recipe or setting is refused before anything heavy; models, runs and the machine are shown."""
    model = ROOT / "mrigen" / "assets" / "models" / "demo-brain"
    shutil.copytree(model, tmp_path / "run" / "student" / "model")
    (tmp_path / "run" / "recipe.yaml").write_text("teacher: {}\n")
    shown = [
        "list operators radial",
        "recipes show demo/brain",
        "models",
        f"info {model}",
        f"info {tmp_path / 'run'}",
    ]
    commands = [
        "train nothing",
        "run demo/brain --set teacher",
        "run demo/brain --nothing",
        "distill nothing.yaml",
        "stop nothing",
        "prep-fastmri nothing --out store --acceleration 0.5",
    ]
    code = (
        "import sys; from mrigen.cli.main import run; from mrigen.recipe import health; health.DRIVERS = ()\n"
        f"for words in {commands!r}:\n"
        "    assert run(words.split()) == 2, words\n"
        "if sys.platform == 'linux':\n"
        "    assert run(['doctor']) == 0\n"
        "assert 'h5py' not in sys.modules\n"
        f"for words in {shown!r}:\n"
        "    assert run(words.split()) == 0, words\n"
        "print('LOADED', [m for m in ('torch', 'sigpy', 'scipy') if m in sys.modules])"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "LOADED []"


TRAINING_ONLY = (
    "lightning_fabric",
    "pytorch_lightning",
    "torchmetrics",
    "torchvision",
    "torch_fidelity",
    "matplotlib",
    "sigpy",
    "fastmri",
    "scipy",
    "skimage",
    "sklearn",
    "nibabel",
    "pandas",
)


def test_commands_that_train_nothing_start_without_what_training_needs(tmp_path):
    """One after the other in one process, so that one import of torch is enough."""
    kspace = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.complex64)
    np.save(tmp_path / "kspace.npy", kspace)
    commands = [
        "doctor",
        "info kspace.npy",
        "prep-fastmri nothing --out store --acceleration 4",
        "prep-images nothing --out store",
        "sample nothing --out samples.h5",
        "reconstruct nothing --solver rss --out images",
        "evaluate nothing --reference nothing",
        "audit nothing --data nothing --out audit",
        "train demo/brain --set teacher.nothing=1",
        "import-checkpoint nothing.pkl model",
    ]
    code = (
        "import sys; from mrigen.cli.main import run\n"
        f"for words in {commands!r}:\n"
        "    run(words.split())\n"
        "    loaded = {m.partition('.')[0] for m in sys.modules}\n"
        f"    print('LOADED', words, sorted(loaded & {set(TRAINING_ONLY)!r}))"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("LOADED")]
    assert lines == [f"LOADED {words} []" for words in commands]


def test_shell_completion_imports_nothing_heavy():
    code = (
        "import sys, os; from mrigen.cli.main import run; code = run([]);"
        f"loaded = [m for m in {HEAVY!r} if m in sys.modules]; print('LOADED', loaded)"
    )
    environment = {
        "_MRIGEN_COMPLETE": "complete_bash",
        "COMP_WORDS": "mrigen ",
        "COMP_CWORD": "1",
        "PATH": "/usr/bin",
    }
    done = python("-c", code, env=environment)
    assert "prep-fastmri" in done.stdout
    assert not done.stderr


def test_import_of_the_package_is_light_and_its_names_exist():
    code = (
        "import sys, mrigen; assert 'torch' not in sys.modules;"
        "print([getattr(mrigen, n).__name__ for n in mrigen.__all__ if n[0] != '_'])"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "espirit" in done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    done = python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT))
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_wheel_holds_every_module_recipe_and_asset(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {str(p.relative_to(ROOT)) for p in (ROOT / "mrigen").rglob("*.py")}
    for folder in ("recipes",):
        found = [
            *(ROOT / folder).rglob("*.py"),
            *(ROOT / folder).rglob("*.yaml"),
            *(ROOT / folder).rglob("*.sbatch"),
        ]
        expected |= {f"mrigen/{p.relative_to(ROOT)}" for p in found}
    expected |= {"mrigen/assets/colin27_t1_1mm.npz", "mrigen/assets/NOTICE", "mrigen/py.typed"}
    assert expected <= names
    assert not [n for n in names if n.startswith(("recipes/", "tests/"))]
    asset = ROOT / "mrigen" / "assets" / "colin27_t1_1mm.npz"
    assert asset.stat().st_size <= 2_000_000


def test_wheel_lists_the_recipes_in_a_clean_environment(wheel, tmp_path):
    """Installed without dependencies: the light commands need typer, rich and pydantic only."""
    target = tmp_path / "site"
    done = python("-m", "pip", "install", "--no-deps", "--quiet", "--target", str(target), str(wheel))
    assert done.returncode == 0, done.stderr
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import mrigen; assert sys.argv[1] in mrigen.__file__;"
        "from mrigen import recipe; print('\\n'.join(recipe.names()))"
    )
    done = python("-I", "-c", code, str(target), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = [p.relative_to(ROOT / "recipes") for p in (ROOT / "recipes").rglob("*.yaml")]
    assert sorted(done.stdout.split()) == sorted(str(p)[:-5] for p in files if not p.name.startswith("_"))


def test_packages_are_all_listed():
    """The list in pyproject.toml is written by hand, because of the mapped folders."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {".".join(p.parent.relative_to(ROOT).parts) for p in (ROOT / "mrigen").rglob("__init__.py")}
    found.add("mrigen.recipes")
    assert listed == found


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        (
            "operators/mri.py",
            "from mrigen.prep.kspace.options import Options",
            "Layers from the command down",
        ),
        (
            "engine/loop.py",
            "from mrigen.prep.readers.fastmri import read_slices",
            "cannot open reference images",
        ),
    ],
)
def test_import_rules_see_data_preparation(module, line, contract, tmp_path):
    """An import of raw, fully sampled k-space planted where it must not be breaks a rule."""
    shutil.copytree(ROOT / "mrigen", tmp_path / "mrigen", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    planted = tmp_path / "mrigen" / module
    planted.write_text(planted.read_text() + f"\n{line}\n")
    code = (
        "import sys; sys.path.insert(0, '.');"
        "from importlinter.cli import lint_imports_command; lint_imports_command()"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 1, done.stdout
    broken = [text for text in done.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(contract in text for text in broken), done.stdout


def test_one_module_has_the_fourier_transform():
    """Everything else goes through mrigen.fourier."""
    users = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "mrigen").rglob("*.py")
        if any(
            isinstance(node, ast.Attribute)
            and node.attr == "fft"
            and ast.unparse(node) in {"torch.fft", "np.fft", "numpy.fft", "scipy.fft"}
            for node in ast.walk(ast.parse(path.read_text()))
        )
    ]
    assert users == ["mrigen/fourier.py"]


def test_licence_and_notices():
    notice = (ROOT / "mrigen" / "assets" / "NOTICE").read_text()
    assert "Colin27" in notice
    assert "BSD" in notice
    assert "Apache License" in (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize(
    "module",
    [
        "recipe.sampling",
        "recipe.comparison",
        "reconstruction.job",
        "recipe.audit",
        "prep.kspace.job",
        "model",
    ],
)
def test_what_needs_no_training_starts_without_fabric(module):
    """Lightning Fabric imports torchmetrics and torchvision, seconds in all, where it is used."""
    heavy = "[m in sys.modules for m in ('lightning_fabric', 'torchmetrics')]"
    code = f"import sys, mrigen.{module}; print({heavy})"
    done = python("-c", code)
    assert done.stdout.strip() == "[False, False]", done.stderr


def test_packages_do_not_import_each_other_in_circles():
    """Nor inside functions, where import-linter does not look; modules at the top count as packages."""
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "mrigen").rglob("*.py")
    }
    arrows = {}
    for name in names:
        tree = ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text())
        typing = [
            n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)
        ]
        skipped = {id(inner) for block in typing for inner in ast.walk(block)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and id(node) not in skipped and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    parts = (whole if whole in names else node.module).split(".")
                    if parts[0] == "mrigen" and len(parts) > 1:
                        arrows.setdefault(name.split(".")[1], set()).add(parts[1])
    order = graphlib.TopologicalSorter({package: to - {package} for package, to in arrows.items()})
    assert len(tuple(order.static_order())) > 15


def test_a_model_folder_is_described_in_few_places():
    """Everything else takes a ``Model``."""
    files = [path.read_text() for path in (ROOT / "mrigen").rglob("*.py")]
    calls = sum(
        isinstance(node, ast.Call) and ast.unparse(node.func) == "read_description"
        for text in files
        for node in ast.walk(ast.parse(text))
    )
    assert 1 <= calls <= 3
