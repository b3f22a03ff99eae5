"""Dask workers: the same bytes as local processes, whatever happens to a worker."""

import os
import shutil
import signal
import subprocess
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from distributed import Client
from waiting import wait_until

from mrigen.cli.main import run
from mrigen.errors import UsageError
from mrigen.prep import cluster, workers
from mrigen.prep.pool import Processes, Work

from .scans import digests

OPTIONS = ["--acceleration", "4", "--acs-lines", "4", "--kernel-width", "3", "--fixed-further"]


@pytest.fixture(scope="module")
def two_workers():
    """A cluster of two worker processes of one thread."""
    with cluster._local(2) as found:
        yield found


@pytest.fixture
def client(two_workers):
    with Client(two_workers.scheduler_address, set_as_default=False) as found:
        yield found


def work(function, tasks, *folders):
    return Work(function, tasks, 0, folders, str)


def kill_one_worker(client, store):
    """Kill a worker that has a volume in work, as soon as the first volume is there."""
    wait_until(lambda: list(store.glob("*.h5")))
    address = next(address for address, tasks in client.processing().items() if tasks)
    before = client.run(os.getpid)
    os.kill(before[address], signal.SIGKILL)
    return len(list(store.glob("*.h5")))


def test_a_killed_worker_changes_no_byte(two_workers, client, simulate, tmp_path):
    raw = simulate(tmp_path / "raw", volumes=10, slices=4)
    arguments = ["prep-fastmri", str(raw), *OPTIONS]
    assert run([*arguments, "--out", str(tmp_path / "local" / "store"), "--jobs", "1"]) == 0
    store = tmp_path / "dask" / "store"
    finished_before = []
    watch = threading.Thread(target=lambda: finished_before.append(kill_one_worker(client, store)))
    watch.start()
    address = ["--dask-scheduler", two_workers.scheduler_address]
    assert run([*arguments, "--out", str(store), *address]) == 0
    watch.join(timeout=120)
    assert 0 < finished_before[0] < 10
    assert digests(tmp_path / "dask") == digests(tmp_path / "local")
    assert not list(tmp_path.rglob(".*.tmp"))


def fails_once(mark):
    """Raises at the first call, which leaves a mark."""
    if not mark.exists():
        mark.touch()
        raise OSError("the network file system was away")
    return "done"


def test_a_task_that_raises_is_tried_again(two_workers, tmp_path):
    marks = [tmp_path / "one", tmp_path / "two"]
    given = cluster.DaskCluster(two_workers.scheduler_address)
    assert dict(given.run(work(fails_once, marks, tmp_path))) == dict.fromkeys(marks, "done")


def test_images_and_paths_of_another_folder(two_workers, tmp_path, monkeypatch, capsys):
    """Relative paths mean the same to workers, which have a working folder of their own."""
    monkeypatch.chdir(tmp_path)
    command = ["prep-images", "digits", "--operator", "inpainting:missing=0.6", "--limit", "300"]
    assert run([*command, "--out", "one", "--jobs", "1"]) == 0
    assert run([*command, "--out", "two", "--dask-scheduler", two_workers.scheduler_address]) == 0
    assert digests(tmp_path / "two") == digests(tmp_path / "one")
    assert digests(tmp_path / "two-reference") == digests(tmp_path / "one-reference")
    capsys.readouterr()
    assert run([*command, "--out", "two", "--dask-scheduler", two_workers.scheduler_address]) == 0
    assert "300 skipped" in capsys.readouterr().out.replace(",", "")


def test_a_straggler_is_run_again_elsewhere(two_workers, tmp_path, monkeypatch):
    """The first to run the task sleeps; whoever runs it next finds the mark and ends."""
    monkeypatch.setattr(cluster, "STRAGGLER_SECONDS", 0.2)
    monkeypatch.setattr(cluster, "STRAGGLER_FACTOR", 0.0)
    mark = tmp_path / "mark"
    sleepy = f"mkdir {mark} 2>/dev/null && echo $$ > {mark}/pid && exec sleep 600; echo awake"
    tasks = [["sh", "-c", "echo quick"], ["sh", "-c", sleepy]]
    try:
        found = cluster.DaskCluster(two_workers.scheduler_address).run(work(subprocess.check_output, tasks))
        assert sorted(result for _, result in found) == [b"awake\n", b"quick\n"]
    finally:
        os.kill(int((mark / "pid").read_text()), signal.SIGKILL)


def test_a_local_cluster_listens_on_this_machine_alone(two_workers, client):
    processes = [os.getpid(), *client.run(os.getpid).values()]
    owned = {link for pid in processes for link in _links(Path(f"/proc/{pid}/fd"))}
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and f"socket:[{inode}]" in owned:
                listening.append(local.split(":")[0])
    assert len(listening) >= 3
    assert set(listening) == {"0100007F"}


def _links(folder):
    for path in folder.iterdir():
        with suppress(OSError):
            yield str(path.readlink())


def test_a_task_that_kills_its_workers_is_named(two_workers, monkeypatch):
    monkeypatch.setattr(two_workers.scheduler, "allowed_failures", 0)
    with pytest.raises(UsageError, match=r"^9: several workers were killed over it"):
        list(cluster.DaskCluster(two_workers.scheduler_address).run(work(os._exit, [9])))


def test_a_local_cluster_of_this_command(tmp_path):
    command = ["prep-images", "digits", "--limit", "20", "--out", str(tmp_path / "store")]
    assert run([*command, "--dask-scheduler", "local", "--jobs", "1"]) == 0
    assert len(digests(tmp_path / "store")) == 3


def test_workers_that_see_other_folders_or_have_another_version(tmp_path):
    with pytest.raises(UsageError, match="does not see this folder"):
        cluster._call(str, 1, [tmp_path / "gone" / ".mark"], cluster.mrigen.__version__)
    with pytest.raises(UsageError, match=r"a worker has mrigen .*, not 0.0.0"):
        cluster._call(str, 1, [], "0.0.0")
    seconds, result = cluster._call(str, 1, [tmp_path], cluster.mrigen.__version__)
    assert seconds >= 0
    assert result == "1"


def test_mistakes(tmp_path, capsys, monkeypatch):
    out = tmp_path / "store"
    command = ["prep-images", "digits", "--limit", "20", "--out", str(out)]
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.5)
    assert run([*command, "--dask-scheduler", "tcp://127.0.0.1:1"]) == 2
    assert "tcp://127.0.0.1:1: no scheduler answers" in capsys.readouterr().err
    assert run([*command, "--dask-scheduler", "nonsense"]) == 2
    assert "nonsense: no scheduler answers" in capsys.readouterr().err
    assert run([*command, "--dask-scheduler", "tcp://127.0.0.1:1", "--jobs", "2"]) == 2
    assert "has its own workers" in capsys.readouterr().err
    monkeypatch.setattr(workers, "find_spec", lambda _name: None)
    assert run([*command, "--dask-scheduler", "local"]) == 2
    error = capsys.readouterr().err
    assert "pip install 'mrigen[dask]'" in error
    assert len(error.splitlines()) == 1
    assert not out.exists()
    assert workers.choose(3, None) == Processes(3)
    shutil.rmtree(tmp_path)
