"""Which workers a preparation has: processes of this machine, or a Dask cluster's."""

from __future__ import annotations

from importlib.util import find_spec

from mrigen.errors import UsageError
from mrigen.prep.pool import Processes, Workers


def choose(jobs: int | None, dask_scheduler: str | None) -> Workers:
    """Processes of this machine unless a Dask scheduler is named.

    Args:
        jobs: number of processes; by default as many as the amount of data is worth.
        dask_scheduler: ``tcp://HOST:PORT`` of a running scheduler, or ``local`` for one that is started
            here with ``jobs`` workers.

    Raises:
        UsageError: Dask is not installed, or ``jobs`` is given for a cluster that has its own workers.
    """
    if dask_scheduler is None:
        return Processes(jobs)
    if find_spec("distributed") is None:
        raise UsageError("--dask-scheduler: Dask is not installed; pip install 'mrigen[dask]'")
    from mrigen.prep.cluster import LOCAL, DaskCluster

    if jobs is not None and dask_scheduler != LOCAL:
        raise UsageError(f"--jobs: the cluster at {dask_scheduler} has its own workers; leave it out")
    return DaskCluster(dask_scheduler, jobs)
