"""Peak memory of importing a large snapshot, and time until the imported model is ready.

    python benchmarks/import_memory.py [--megabytes 300]

Makes an Ambient-like snapshot (gated SongUNet, random weights, plain pickle) in a temporary folder,
imports it in a process of its own, and loads the result in another. Peak memory is the largest resident
set size that Linux reports (VmHWM), mapped pages of the files included; the last figures subtract what
the same process needs after importing Python, torch and mrigen alone.
"""

import argparse
import json
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.arguments import positive

MEASURE = """
import sys, time
import torch
import mrigen.checkpoints.importer, mrigen.checkpoints.folder, mrigen.networks.song_unet
from pathlib import Path
mrigen.networks.NETWORKS.names()


def resident():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


base = resident()
start = time.perf_counter()
if sys.argv[1] == "import":
    mrigen.checkpoints.importer.import_checkpoint(Path(sys.argv[2]), Path(sys.argv[3]))
else:
    model, _ = mrigen.checkpoints.folder.load_network(sys.argv[3])
ready = time.perf_counter() - start
if sys.argv[1] == "load":
    for tensor in model.state_dict().values():
        tensor.sum()
print(base, resident(), ready)
"""


def make_snapshot(folder: Path, size: float) -> Path:
    """Write a snapshot of about ``size`` bytes and its options; returns its path."""
    import torch

    from mrigen.checkpoints.export import released_weights
    from mrigen.networks import NETWORKS, PRECONDITIONERS

    layout = {"channel_mult": [1, 1, 1, 1], "gated": True, "model_channels": 128}
    for channels in range(32, 4096, 32):
        layout["model_channels"] = channels
        spec = {"name": "song-unet", "resolution": 384, "in_channels": 4, "out_channels": 4, **layout}
        with torch.device("meta"):
            network = NETWORKS.build(spec)
        if 4 * sum(p.numel() for p in network.parameters()) >= size:
            break
    model = PRECONDITIONERS.build({"name": "edm"}, network=NETWORKS.build(spec))
    state = {f"_orig_mod.{name}": tensor for name, tensor in released_weights(model).items()}
    path = folder / "network-snapshot.pkl"
    with path.open("wb") as file:
        pickle.dump({"ema": state}, file, protocol=4)
    options = {
        "network_kwargs": {"model_type": "SongUNet", "class_name": "training.networks.EDMPrecond", **layout}
    }
    (folder / "training_options.json").write_text(json.dumps(options))
    return path


def measure(action: str, source: Path, out: Path) -> tuple[int, int, float]:
    """Resident bytes before and at the peak, and seconds, of one action in its own process."""
    command = [sys.executable, "-c", MEASURE, action, str(source), str(out)]
    base, peak, seconds = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return int(base), int(peak), float(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=positive, default=300)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = make_snapshot(folder, arguments.megabytes * 1e6)
        size = source.stat().st_size
        print(f"snapshot {size / 1e6:.0f} MB")
        for action in ("import", "load"):
            base, peak, seconds = measure(action, source, folder / "out")
            print(
                f"{action:6}  {seconds:6.2f} s  peak {peak / 1e6:.0f} MB = {peak / size:.2f} x size, "
                f"{(peak - base) / size:.2f} x without Python and torch ({base / 1e6:.0f} MB)"
            )


if __name__ == "__main__":
    main()
