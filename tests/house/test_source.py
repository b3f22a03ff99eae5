"""What the source must not do: run a stranger's data, or write to a name that can be guessed."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("mrigen", "recipes") for path in (ROOT / folder).rglob("*.py"))
PUBLIC = str(Path("/", "tmp"))
FORBIDDEN = {
    "pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads", "shelve.open",
    "joblib.load", "torch.hub.load", "torch.package.PackageImporter",
    "eval", "exec", "compile", "__import__", "os.system", "os.popen",
    "yaml.full_load", "yaml.unsafe_load", "yaml.load_all", "yaml.FullLoader",
    "yaml.UnsafeLoader", "yaml.Loader", "tempfile.mktemp",
    "os.tmpnam", "xml.etree.ElementTree.parse", "xml.etree.ElementTree.fromstring",
}  # fmt: skip


def faults(source):
    """Lines of a module that break the rules."""
    tree = ast.parse(source)
    return [f"{node.lineno}: {fault}" for node in ast.walk(tree) for fault in _faults(node, tree)]


def _faults(node, tree):
    if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
        name = ast.unparse(node)
        if name in FORBIDDEN:
            yield name
    if isinstance(node, ast.ImportFrom) and node.module in {"pickle", "marshal", "tempfile", "yaml"}:
        yield f"from {node.module}: import the module, so that its calls can be seen"
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(PUBLIC):
        yield f"{node.value!r}: a place that everybody can write to"
    if isinstance(node, ast.Call):
        yield from _call_faults(node, tree)


def _call_faults(node, tree):
    name = ast.unparse(node.func)
    keywords = {keyword.arg: keyword.value for keyword in node.keywords}
    if name == "torch.load" and not _is(keywords.get("weights_only"), True):
        yield "torch.load without weights_only=True"
    if name == "yaml.load" and not _safe(node, tree):
        yield "yaml.load without a loader derived from yaml.SafeLoader"
    if name.startswith("np.load") and "allow_pickle" in keywords and not _is(keywords["allow_pickle"], False):
        yield "numpy.load with pickles"
    if name.startswith("subprocess.") and "shell" in keywords:
        yield "a shell"


def _is(node, value):
    return isinstance(node, ast.Constant) and node.value is value


def _safe(call, tree):
    """Whether the second argument is a class of this module, derived from the safe loader."""
    safe = {
        node.name
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and [ast.unparse(base) for base in node.bases] == ["yaml.SafeLoader"]
    }
    return len(call.args) == 2 and ast.unparse(call.args[1]) in safe


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_source_keeps_the_rules(path):
    assert faults(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=flag)",
        "yaml.load(text, yaml.FullLoader)",
        "yaml.load(text, Loader)",
        "pickle.loads(data)",
        "read = pickle.load",
        "from pickle import loads",
        "np.load(path, allow_pickle=True)",
        "tempfile.mktemp()",
        f"open('{PUBLIC}/mrigen', 'w')",
        "eval(text)",
        "subprocess.run(text, shell=True)",
    ],
)
def test_the_rules_see_what_breaks_them(line):
    assert faults(line)


def test_the_rules_allow_what_is_safe():
    lines = [
        "class Own(yaml.SafeLoader): pass",
        "yaml.load(text, Own)",
        "yaml.safe_load(text)",
        "torch.load(path, weights_only=True)",
        "np.load(path, allow_pickle=False)",
        "re.compile(text)",
        "model.eval()",
        "tempfile.mkdtemp()",
    ]
    assert faults("\n".join(lines)) == []
