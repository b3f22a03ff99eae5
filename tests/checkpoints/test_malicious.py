"""Hostile files end in one line; nothing of them runs, and memory stays bounded."""

import os
import pickletools
import random
import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mrigen.checkpoints.container import read_checkpoint
from mrigen.checkpoints.importer import import_checkpoint
from mrigen.checkpoints.released import find
from mrigen.errors import UsageError

from .malicious import CANARY, CASES, call, text
from .written import make_model, module_tree, options, released_state, saved
from .written import pickled as pickled_module

WATCHED = (
    "os.",
    "subprocess.",
    "exec",
    "compile",
    "import",
    "pickle.",
    "socket.",
    "ctypes.",
    "shutil.",
    "marshal.",
)
HARMLESS = {"os.listdir", "os.scandir"}
SEEN: list[str] = []
WATCHING = [False]


def _audit(event, arguments):
    if WATCHING[0] and event.startswith(WATCHED) and event not in HARMLESS:
        SEEN.append(f"{event}{arguments!r}"[:200])


sys.addaudithook(_audit)


@pytest.fixture(autouse=True)
def _somewhere(tmp_path, monkeypatch):
    """Run where a canary would be noticed."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / CANARY).exists()


def refused(path):
    """The error of reading and sorting a file; nothing may be called, imported or compiled meanwhile."""
    SEEN.clear()
    WATCHING[0] = True
    try:
        with pytest.raises(UsageError) as caught:
            find(read_checkpoint(path), {})
    finally:
        WATCHING[0] = False
    assert not SEEN
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 600
    return message


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory):
    """What Python imports on first use is no concern of the files."""
    path = tmp_path_factory.mktemp("warm") / "x.pt"
    for data in (CASES["running: zip"], CASES["confusing: zip cut off"], saved({"a": 1})):
        path.write_bytes(data)
        with pytest.raises(UsageError):
            find(read_checkpoint(path), {})


@pytest.mark.parametrize("case", CASES)
def test_hand_made_files_are_refused(case, tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(CASES[case])
    refused(path)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("running: os.system", "names os.system, which is not allowed; nothing of it was executed"),
        ("running: dotted name", "names torch.storage._load_from_bytes.__globals__"),
        ("running: unknown class", "class 'Backdoor' is not one of EDMPrecond"),
        ("running: instance opcode", "the pickle instruction 0x53"),
        ("running: torchscript", "is a TorchScript program"),
        ("exhausting: zip bomb", "is a compressed zip archive"),
        ("exhausting: bytes of 4 EiB", "declares an absurd size"),
        ("exhausting: endless", "more than 1000000 pickle instructions"),
        ("confusing: html", "is not allowed|not a pickle"),
        ("confusing: empty", "is empty"),
    ],
)
def test_messages_say_what_is_wrong(case, message, tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(CASES[case])
    with pytest.raises(UsageError, match=message):
        find(read_checkpoint(path), {})


BOUNDED = """
import resource, sys
from pathlib import Path
from mrigen.checkpoints.container import read_checkpoint
from mrigen.errors import UsageError

limit = 1 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        read_checkpoint(path)
    except UsageError:
        pass
lines = Path("/proc/self/status").read_text().splitlines()
print(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space limits are Linux's")
def test_memory_stays_bounded(tmp_path):
    """All files in one process that may have 1 GiB of address space; it ends and needs far less."""
    folder = tmp_path / "files"
    folder.mkdir()
    for index, data in enumerate(CASES.values()):
        (folder / f"{index:03}.pkl").write_bytes(data)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BOUNDED, str(folder)]
    out = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    assert int(out) < 512 * 1024


def specimens():
    """Small valid files of every wrapping."""
    model = make_model(channel_mult=(1,), num_blocks=1)
    state = {"ema": released_state(model)}
    return [
        pickled_module({"ema": module_tree(model), "loss_fn": None}),
        saved(state),
        saved(state, zipped=False),
    ]


SPECIMENS = specimens()
PLACES = [
    [position for _, _, position in pickletools.genops(SPECIMENS[0])],
    list(range(len(SPECIMENS[1]))),
    list(range(3000)),
]
FRAGMENTS = [
    call("os", "system", text(f"touch {CANARY}")),
    call("builtins", "eval", text(f"open({CANARY!r}, 'w')")),
    b"R",
    b"b",
    b"\x81",
    b"0",
    b"2",
    b"(",
    b"Q",
    b"\x93",
    b"\x8e" + b"\xff" * 8,
    b"\x94",
    b"a",
    b"s",
]

MUTATION = st.tuples(
    st.floats(0, 1, exclude_max=True),
    st.sampled_from(["flip", "insert", "delete", "cut"]),
    st.integers(0, 255),
    st.integers(0, len(FRAGMENTS) - 1),
)


def mutate(data, places, mutations):
    for where, kind, value, fragment in mutations:
        place = min(places[int(where * len(places))], len(data) - 1)
        if kind == "flip":
            data = data[:place] + bytes([value]) + data[place + 1 :]
        elif kind == "insert":
            data = data[:place] + FRAGMENTS[fragment] + data[place:]
        elif kind == "delete":
            data = data[:place] + data[place + 1 + value % 16 :]
        else:
            data = data[: place + 1]
    return data


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(kind=st.integers(0, 2), mutations=st.lists(MUTATION, min_size=1, max_size=4))
def test_mutated_files_are_read_or_refused(kind, mutations, tmp_path_factory):
    """A mutation may leave a valid file; it never does anything but that or the one-line error."""
    path = tmp_path_factory.getbasetemp() / "mutated.pkl"
    path.write_bytes(mutate(SPECIMENS[kind], PLACES[kind], mutations))
    message = ""
    SEEN.clear()
    WATCHING[0] = True
    try:
        find(read_checkpoint(path), {"network_kwargs": {"model_type": "SongUNet"}})
    except UsageError as error:
        message = str(error)
    finally:
        WATCHING[0] = False
    assert not SEEN
    assert message.isprintable()


@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x80\x04", b"\x80\x02", b"PK\x03\x04"]))
def test_noise_is_read_or_refused(noise, head):
    from mrigen.checkpoints.pickle_allowlist import table
    from mrigen.pickles.machine import Machine
    from mrigen.pickles.plain import Budget, MalformedError

    machine = Machine(memoryview(head + noise), table(lambda data: None), Budget())
    with suppress(MalformedError):
        machine.load()
    assert machine.position <= len(head + noise)


def test_truncation_anywhere_is_refused(tmp_path):
    path = tmp_path / "x.pkl"
    places = random.Random(0)
    for data in SPECIMENS:
        for _ in range(15):
            path.write_bytes(data[: places.randrange(1, len(data) - 1)])
            refused(path)


def test_mutated_weights_never_leave_a_partial_model(tmp_path):
    """Whatever is wrong, the model folder has both files or none."""
    import json

    model = make_model(channel_mult=(1,), num_blocks=1)
    good = saved({"ema": released_state(model)}, zipped=False)
    (tmp_path / "training_options.json").write_text(json.dumps(options(model)))
    draw = random.Random(1)
    outcomes = set()
    for index in range(40):
        data = bytearray(good)
        for _ in range(3):
            data[draw.randrange(len(data) if index % 2 else 3000)] = draw.randrange(256)
        source, out = tmp_path / "x.pkl", tmp_path / f"out{index}"
        source.write_bytes(data)
        try:
            import_checkpoint(source, out)
        except UsageError:
            outcomes.add("refused")
            assert not out.exists() or not list(out.iterdir())
        else:
            outcomes.add("imported")
            assert {p.name for p in out.iterdir()} == {"model.json", "model.safetensors"}
    assert outcomes == {"refused", "imported"}


def test_devices_and_folders_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "not a regular file"),
        (tmp_path / "no", "exist"),
    ):
        with pytest.raises(UsageError, match=reason):
            read_checkpoint(path)
