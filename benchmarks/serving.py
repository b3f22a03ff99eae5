"""Seconds from a slice's last line to its image, over a socket of the loopback.

    python -m benchmarks.serving

A simulated head, undersampled by random lines, is streamed to ``mrigen serve``'s server, slice after slice,
with a line every ``--tr`` from one side of k-space to the other, and then all of it again: the second time
the coil maps are known. The clock starts before the last line of a slice is sent and stops when its image is
there; what the server does while lines come is not in it, unless it takes longer than they do. Processor
seconds are those of the whole process, all threads and the client included, for a slice with all its lines.
Errors are of magnitudes, beside the coil-combined image of all lines. The first slice comes after the
server's warm-up. The teacher of ``ambient-one-step`` has the demo's network at the scan's size and is not
trained, so that only its time counts.
"""

from __future__ import annotations

import argparse
import resource
import socket
import statistics
import struct
import threading
import time
from typing import Any

import numpy as np
import torch
from benchmarks.arguments import new_file, positive, whole
from torch import Tensor

import mrigen as mg
from mrigen import fourier
from mrigen.coils.espirit import espirit
from mrigen.files import write_json
from mrigen.masks import exact_random
from mrigen.model import Model
from mrigen.prep import ismrmrd
from mrigen.prep.kspace.options import Options
from mrigen.prep.simulate.acquisition import Scanner, Simulation
from mrigen.prep.simulate.anatomy import bundled
from mrigen.serving import messages
from mrigen.serving.server import Server
from mrigen.serving.session import LAST_IN_SLICE, Reconstructor

SOLVERS = [
    "zero-filled",
    "cg-sense:steps=12",
    "cg-sense",
    "l1-wavelet:iterations=8,shifts=1",
    "l1-wavelet",
    "ambient-one-step",
]
LINE = struct.pack("<H", messages.ACQUISITION)


def line(kspace: Tensor, where: int, slice_number: int, repetition: int, *, last: bool) -> bytes:
    """The message of a readout of k-space (coils, H, W)."""
    head = np.zeros((), messages.LINE_HEAD)
    coils, samples, _ = kspace.shape
    head["active_channels"], head["number_of_samples"], head["center_sample"] = coils, samples, samples // 2
    head["flags"] = int(last) << (LAST_IN_SLICE - 1)
    for name, value in (("kspace_encode_step_1", where), ("slice", slice_number), ("repetition", repetition)):
        head["idx"][name] = value
    return LINE + head.tobytes() + np.ascontiguousarray(kspace[..., where].numpy()).tobytes()


def received(stream: Any) -> np.ndarray:
    """The next image, (x, y).

    Raises:
        ValueError: the server sent something else.
    """
    (number,) = struct.unpack("<H", stream.read(2))
    if number != messages.IMAGE:
        raise ValueError(stream.read(struct.unpack("<I", stream.read(4))[0]).decode())
    head = np.frombuffer(stream.read(messages.IMAGE_HEAD.itemsize), messages.IMAGE_HEAD)[0]
    stream.read(8)
    x, y, _ = head["matrix_size"]
    return np.frombuffer(stream.read(4 * int(x) * int(y)), np.float32).reshape(y, x).T


def streamed(
    server: Server, xml: bytes, kspace: Tensor, mask: Tensor, tr: float
) -> tuple[list[np.ndarray], list, list]:
    """Images of two passes, seconds and processor seconds of each slice; a line every ``tr`` seconds."""
    images, waited, worked = [], [], []
    lines = mask.nonzero().flatten().tolist()
    with socket.create_connection(server.address) as client, client.makefile("rb") as stream:
        client.sendall(struct.pack("<HI", messages.HEADER, len(xml)) + xml)
        for repetition in range(2):
            for number, one in enumerate(kspace):
                before = time.process_time()
                due = time.perf_counter()
                for where in lines:
                    part = line(one, where, number, repetition, last=where == lines[-1])
                    time.sleep(max(0.0, due - time.perf_counter()))
                    start = time.perf_counter()
                    client.sendall(part)
                    due += tr
                images.append(received(stream))
                waited.append(time.perf_counter() - start)
                worked.append(time.process_time() - before)
        client.sendall(struct.pack("<H", messages.CLOSE))
        stream.read(2)
    return images, waited, worked


def error(images: list[np.ndarray], references: Tensor) -> float:
    """‖|x| − |reference|‖ / ‖reference‖ of all slices."""
    difference = torch.from_numpy(np.stack(images)) - references
    return float(difference.norm() / references.norm())


def measured(
    solver: str, model: Model | None, kspace: Tensor, mask: Tensor, references: Tensor, tr: float
) -> list[dict[str, Any]]:
    """A row for each pass."""
    prep = Options(noise_whitening=False, virtual_coils=0)
    reconstructor = Reconstructor(solver, model, prep, torch.device("cpu"))
    reconstructor.warm_up()
    server = Server(reconstructor, port=0, log=lambda _: None)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        images, waited, worked = streamed(server, header(*kspace.shape[2:]), kspace, mask, tr)
    finally:
        server.stop()
        thread.join()
    count, rows = len(kspace), []
    for number, maps in enumerate(("computed", "known")):
        part = slice(number * count, (number + 1) * count)
        rows.append(
            {
                "solver": solver,
                "kspace": list(kspace.shape[1:]),
                "maps": maps,
                "slices": count,
                "median": statistics.median(waited[part]),
                "longest": max(waited[part]),
                "processor": statistics.median(worked[part]),
                "nrmse": None if model is not None else error(images[part], references),
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    head = "| solver | coils, H, W | coil maps | median, s | longest, s | processor, s | NRMSE |"
    lines = []
    for r in rows:
        nrmse = "" if r["nrmse"] is None else f"{r['nrmse']:.3f}"
        times = " | ".join(f"{r[key]:.2f}" for key in ("median", "longest", "processor"))
        size = " × ".join(map(str, r["kspace"]))
        lines.append(f"| `{r['solver']}` | {size} | {r['maps']} | {times} | {nrmse} |")
    return "\n".join([head, f"{'|---' * 7}|", *lines])


def untrained(kspace: Tensor, maps: Tensor, mask: Tensor) -> Model:
    """A teacher with the demo's network that saw two slices."""
    seen = kspace[:2] / mg.ifft(kspace[:2]).abs().max()  # teachers are trained on images of about 1
    store = mg.TensorStore(seen * mask, maps[:2], mask)
    network = {"name": "song-unet", "model_channels": 16, "channel_mult": [1, 2, 2], "num_blocks": 1,
               "attn_resolutions": []}  # fmt: skip
    return mg.train(store, objective="ambient", images=2, batch=2, network=network, device="cpu")


def header(height: int, width: int) -> bytes:
    """The measurement's XML."""
    sizes: dict[str, Any] = {"encoded_matrix": (height, width, 1), "recon_matrix": (height, width, 1)}
    fields = {"encoded_fov": (240.0, 240.0, 3.0), "recon_fov": (240.0, 240.0, 3.0)}
    times = dict.fromkeys(("tr_ms", "te_ms", "ti_ms", "flip_angle_deg", "field_strength"), 1.0)
    limits = {"centre": width // 2, "maximum": width - 1}
    return ismrmrd.write(ismrmrd.Header(**sizes, **fields, **times, **limits), {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--matrix", type=whole, default=256)
    parser.add_argument("--coils", type=whole, default=8)
    parser.add_argument("--slices", type=whole, default=6)
    parser.add_argument("--acceleration", type=positive, default=4.0)
    parser.add_argument("--acs-lines", type=whole, default=20)
    parser.add_argument("--tr", type=positive, default=5.0, help="ms from line to line")
    parser.add_argument("--threads", type=whole, default=torch.get_num_threads())
    parser.add_argument("--solvers", nargs="+", default=SOLVERS)
    parser.add_argument("--json", type=new_file)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size = options.matrix
    simulation = Simulation(slices=options.slices, matrix=(size, size), coils=options.coils)
    kspace = torch.cat(list(Scanner.build(simulation, bundled()).acquire(0)))
    mask = exact_random(size, acceleration=options.acceleration, acs_lines=options.acs_lines, seed=0)
    maps = espirit(kspace, 24, crop=0)
    references = (maps.conj() * fourier.ifft(kspace)).sum(1).abs()
    rows = []
    for solver in options.solvers:
        model = untrained(kspace, maps, mask) if solver.startswith("ambient") else None
        rows += measured(solver, model, kspace, mask, references, options.tr / 1000)
        print(table(rows[-2:]), flush=True)
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
