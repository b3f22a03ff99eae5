"""``mrigen import-checkpoint`` and ``mrigen export`` as a user sees them."""

import json
import subprocess
import sys

import pytest

from mrigen.cli.main import run

from .written import make_model, module_tree, pickled


@pytest.fixture
def sid(tmp_path):
    path = tmp_path / "network-snapshot-1.200000-051200.pkl"
    path.write_bytes(pickled({"ema": module_tree(make_model(attn_resolutions=()))}))
    return path


def test_table_of_the_golden_ambient_checkpoint(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    source = data / "golden/ambient_mri/network-snapshot.pkl"
    assert run(["import-checkpoint", str(source), str(tmp_path / "teacher")]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    rows = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in lines if "  " in line}
    assert rows["architecture"].startswith("SongUNet, 16 channels x 1,1,1,1")
    assert rows["parameters"] == "592,724"
    assert rows["channels"] == "real, imaginary, further mask, ones -> real, imaginary"
    assert rows["corruption"] == "R = 4, 20 ACS lines, dropped further to R = 5"
    assert rows["recipe"] == "fastmri/brain-r4"
    assert rows["role"].startswith("teacher")
    assert rows["objective"] == "ambient (sigma_data 0.5, p_mean -1.2, p_std 1.2)"


def test_import_export_and_refusals(sid, tmp_path, capsys):
    out = tmp_path / "a generator"
    assert run(["import-checkpoint", str(sid), str(out), "--sigma-init", "1.5"]) == 0
    assert json.loads((out / "model.json").read_text())["sigma_init"] == 1.5
    assert "σ = 1.5, full input" in capsys.readouterr().out
    assert run(["import-checkpoint", str(sid), str(out)]) == 2
    assert (
        capsys.readouterr().err.strip().endswith("holds a model already: give another folder, or --overwrite")
    )
    assert run(["import-checkpoint", str(sid), str(out), "--overwrite", "--role", "teacher"]) == 0
    assert json.loads((out / "model.json").read_text())["role"] == "teacher"
    capsys.readouterr()
    assert run(["export", str(out), "--to", "torchscript", "--out", str(tmp_path / "g.ts")]) == 2
    assert "is a teacher" in capsys.readouterr().err
    assert run(["import-checkpoint", str(sid), str(out), "--overwrite"]) == 0
    assert run(["export", str(out), "--to", "torchscript", "--out", str(tmp_path / "g.ts")]) == 0
    assert (tmp_path / "g.ts").stat().st_size > 10_000


def test_errors_are_one_line_with_exit_code_2(tmp_path, capsys):
    (tmp_path / "x.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    for arguments, words in (
        (["import-checkpoint", "x.pkl"], "OUT"),
        (["import-checkpoint", str(tmp_path / "x.pkl"), str(tmp_path / "o")], "names os.system"),
        (["import-checkpoint", str(tmp_path / "y.pkl"), str(tmp_path / "o")], "does not exist"),
        (["import-checkpoint", str(tmp_path), str(tmp_path / "o")], "is a folder"),
        (["import-checkpoint", str(tmp_path / "x.pkl"), str(tmp_path / "x.pkl")], "is a file"),
        (["import-checkpoint", str(tmp_path / "x.pkl"), "o", "--role", "critic"], "--role"),
        (["export", str(tmp_path / "x.pkl"), "--to", "onnx", "--out", "o"], "import-checkpoint"),
        (["export", str(tmp_path), "--to", "onnx", "--out", "o"], "is not a model folder"),
        (["export", str(tmp_path), "--to", "onnx", "--out", str(tmp_path)], "is a folder"),
    ):
        assert run(arguments) == 2
        captured = capsys.readouterr()
        assert words in captured.err
        assert captured.err.count("\n") == 1
        assert not captured.out
    assert [path.name for path in tmp_path.iterdir()] == ["x.pkl"]


def test_help_imports_no_torch():
    code = "import sys; from mrigen.cli.main import run; run(['export', '-h']); print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert "--to" in out
    assert out.rstrip().endswith("False")
