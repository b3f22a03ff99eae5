"""What makes steps fast changes nothing else: guard, reading ahead, fused updates, precision, compilation."""

import copy
import re
import shutil
import threading

import pytest
import torch
from gpu import needs_gpu, without_waiting
from test_loop import _grad
from tiny_jobs import StopAfter, distill_job, fabric, newest, teacher_job, tiny_denoiser, tiny_store, weights
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._inductor import config as inductor
from torch.utils._python_dispatch import TorchDispatchMode

import mrigen as mg
from mrigen.engine import precision
from mrigen.engine.averages import EMA
from mrigen.engine.guard import NonFiniteGuard
from mrigen.engine.launch import choose_device, open_device
from mrigen.engine.loop import fit
from mrigen.engine.micro_batches import MicroBatch
from mrigen.engine.optimizers import Optimizer
from mrigen.engine.params import OptimizerParams
from mrigen.engine.teacher import sample_indices
from mrigen.errors import NonFiniteLossError, UsageError
from mrigen.memory import malloc_keep_freed
from mrigen.networks.layers import Conv2d, GroupNorm
from mrigen.prefetch import Prefetcher, prefetched
from mrigen.recipe import context

CPU = torch.device("cpu")
ALL = MicroBatch(0, 1.0, last=True)


def poison(job, after):
    """Make the job's objective return NaN from its call number ``after`` on."""
    objective = job.objective if hasattr(job, "objective") else job.loss.objective
    real, calls = type(objective).__call__, []

    def call(self, *args):
        calls.append(None)
        loss = real(self, *args)
        return loss * _grad(args) * (float("nan") if len(calls) > after else 1)

    objective.__class__ = type("Poisoned", (type(objective),), {"__call__": call})


def state_of(job):
    flat = {}

    def walk(prefix, value):
        if isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}", inner)
        elif isinstance(value, list):
            for number, inner in enumerate(value):
                walk(f"{prefix}.{number}", inner)
        elif isinstance(value, torch.Tensor):
            flat[prefix] = value.clone()

    walk("", job.state())
    return flat


@pytest.mark.parametrize("make", [teacher_job, distill_job])
def test_lazy_looks_do_not_change_a_run(tmp_path, make):
    """Numbers read every second instead of at every step: the same weights."""
    runs = []
    for lazy in (False, True):
        job = make()
        job.guard.immediate = not lazy
        fit(job, tmp_path / str(lazy), fabric(), "run")
        runs.append(weights(job))
    assert torch.equal(*runs)


@pytest.mark.parametrize("make", [teacher_job, distill_job])
def test_a_late_look_finds_the_state_before_the_offending_step(tmp_path, make):
    """The flag stops weights, moments and averages on the device; images are counted back."""
    whole = make()
    StopAfter(whole, 3)
    with pytest.raises(MemoryError):
        fit(whole, tmp_path / "whole", fabric(), "run")
    expected = state_of(whole)
    bad = make()
    bad.guard.immediate = False
    poison(bad, after=3)
    with pytest.raises(NonFiniteLossError, match="lower the learning rate"):
        fit(bad, tmp_path / "bad", fabric(), "run")
    assert bad.images == newest(tmp_path / "bad")["images"] == 12
    for name, tensor in state_of(bad).items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0, msg=name)


def test_a_gradient_that_is_no_number_ends_the_run_too(tmp_path):
    """The root has an infinite slope at 0 although its value is finite."""
    job = teacher_job()
    real = type(job.objective).__call__

    def call(self, denoiser, *args):
        return real(self, denoiser, *args) + (0 * next(denoiser.parameters()).sum()).sqrt()

    job.objective.__class__ = type("Steep", (type(job.objective),), {"__call__": call})
    with pytest.raises(NonFiniteLossError, match="gradient"):
        fit(job, tmp_path, fabric(), "run")
    assert all(p.isfinite().all() for p in job.optimizer.module.parameters())


def test_guard_remembers_the_first_offender_and_counts_what_came_before():
    guard = NonFiniteGuard(CPU)
    guard.immediate = False
    for loss in (1.0, 2.0, float("inf"), 3.0, float("nan")):
        guard.update(torch.tensor(loss))
        guard.finish_step()
    assert guard.poll() == 2
    with pytest.raises(NonFiniteLossError, match="became inf"):
        guard.raise_if_set()


def test_fused_adam_equals_the_plain_one():
    """Ten steps from the same gradients, to 1e-6."""
    torch.manual_seed(0)
    fused = nn.Linear(5, 3)
    plain = copy.deepcopy(fused)
    optimizer = Optimizer(fused, OptimizerParams(lr=1e-2, max_grad_norm=1.0), 100, fabric())
    assert optimizer.adam.param_groups[0]["fused"]
    adam = torch.optim.Adam(plain.parameters(), lr=1e-2, foreach=False)
    for number in range(10):
        x = torch.randn(4, 5, generator=torch.Generator().manual_seed(number))
        loss = optimizer.module(x).square().mean()
        loss.backward()
        optimizer.step([(ALL, loss.detach())], number + 1)
        adam.zero_grad()
        plain(x).square().mean().backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
        adam.step()
    torch.testing.assert_close(fused.weight, plain.weight, rtol=1e-6, atol=1e-6)


def test_states_of_unfused_adam_go_on_fused():
    network = nn.Linear(2, 2)
    optimizer = Optimizer(network, OptimizerParams(), 100, fabric())
    plain = torch.optim.Adam(copy.deepcopy(network).parameters())
    plain.param_groups[0]["params"][0].grad = torch.ones(2, 2)
    plain.step()
    optimizer.load({"module": network.state_dict(), "adam": plain.state_dict()})
    assert optimizer.adam.param_groups[0]["fused"]
    optimizer.module(torch.ones(1, 2)).sum().backward()
    optimizer.step([(ALL, torch.tensor(1.0))], 1)
    assert int(optimizer.adam.state[network.weight]["step"]) == 2


def test_average_with_a_guard_is_the_same_until_the_flag_is_up():
    network, guard = nn.Linear(3, 3), NonFiniteGuard(CPU)
    guard.immediate = False
    averages = [EMA(network, 100) for _ in range(2)]
    nn.init.ones_(network.weight)
    averages[0].update(network, 1000, 10)
    averages[1].update(network, 1000, 10, guard)
    torch.testing.assert_close(*(a.module.weight for a in averages), rtol=1e-6, atol=1e-7)
    before = averages[1].module.weight.clone()
    guard.update(torch.tensor(float("nan")))
    averages[1].update(network, 1010, 10, guard)
    assert torch.equal(averages[1].module.weight, before)


def test_ahead_reads_in_a_thread_what_is_asked_for_next():
    seen, release = [], threading.Event()

    def read(key):
        seen.append((key, threading.current_thread() is threading.main_thread()))
        if key == 3:
            release.wait(10)
        return 10 * key

    ahead = Prefetcher(read)
    assert ahead.take(1, [2, 3, 4]) == 10
    assert ahead.take(2, [3]) == 20
    release.set()
    assert ahead.take(3) == 30
    assert ahead.take(7) == 70
    assert [key for key, _ in seen if key != 4] == [1, 2, 3, 7]
    assert not any(main for _, main in seen)


def test_ahead_passes_errors_on():
    def read(key):
        raise UsageError(f"{key}: missing")

    with pytest.raises(UsageError, match="a: missing"):
        Prefetcher(read).take("a", ["b"])


def test_items_begun_in_a_thread_come_in_order_with_their_error():
    made = []

    def items():
        for number in range(5):
            made.append(threading.current_thread() is threading.main_thread())
            yield number
        raise UsageError("the disk is full")

    taken = prefetched(items(), depth=2)
    assert [next(taken) for _ in range(5)] == list(range(5))
    with pytest.raises(UsageError, match="disk"):
        next(taken)
    assert not any(made)
    assert list(prefetched([])) == []


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_batches_read_ahead_are_those_of_the_stream(micro_batch):
    """Every micro-batch gets the samples of its place, whatever was read before it."""
    job = teacher_job(batch=4, micro_batch=micro_batch, images=16)
    taken, real = [], job._batch
    job._batch = lambda read, generator: taken.append(read.packed) or real(read, generator)
    for number in range(4):
        job.step(number)
    store = tiny_store()
    size = micro_batch or 4
    for place, packed in enumerate(taken):
        indices = sample_indices(len(store), 7, place * size, size)
        assert torch.equal(packed.y, store.measurements(indices).y)
    assert len(taken) == 16 // size


def test_lower_precision_is_inside_the_network_only():
    """bfloat16 has 8 bits: an input rounded to it would differ from x by up to 0.4 %."""
    lower = open_device("cpu", "bf16-mixed")
    seen = {}
    network = tiny_denoiser().network.eval()
    network.network.register_forward_pre_hook(lambda _, inputs: seen.update(x=inputs[0], s=inputs[1]))
    module = lower.setup_module(network)
    x, sigma = torch.randn(2, 4, 8, 8), torch.tensor([0.01, 1.2345])
    with torch.no_grad():
        low = module(x, sigma)
        scale, label = network.coefficients(sigma)[2:]
        assert torch.equal(seen["x"], scale.view(-1, 1, 1, 1) * x)
        assert torch.equal(seen["s"], label)
        full = network(x, sigma)
    assert low.dtype == torch.float32
    assert 0 < (low - full)[0].abs().max() < 1e-3  # c_out = 0.01 there


def test_group_norm_keeps_low_precision_and_its_accuracy():
    norm = GroupNorm(8)
    nn.init.normal_(norm.weight)
    x = 100 + torch.randn(2, 8, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        low = norm(x.bfloat16())
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), norm(x.bfloat16().float()), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("make", [teacher_job, distill_job])
def test_precision_reaches_every_network(make):
    """Teacher, fake score and generator all compute in bfloat16, and losses stay close to float32's."""
    losses = []
    for kind, expected in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        job, kinds = make(precision=kind), []
        names = ("denoiser",) if make is teacher_job else ("teacher", "generator")
        for network in [getattr(job, name) for name in names]:
            conv = next(m for m in network.modules() if isinstance(m, Conv2d) and m.kernel)
            conv.register_forward_hook(lambda m, i, o, k=kinds: k.append(o.dtype))
        numbers = job.step(0)
        assert set(kinds) == {expected}
        assert len(kinds) >= len(names)
        losses.append(float(numbers.get("loss", numbers.get("fake"))))
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_compilation_needs_a_compiler(monkeypatch):
    monkeypatch.setattr(precision.shutil, "which", lambda name: None)
    with pytest.raises(UsageError, match="no C"):
        teacher_job(compiled=True)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_keeps_its_names_and_computes_the_same(monkeypatch):
    """With the compiler's first half alone (dynamo), which decides what is computed."""
    real = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: real(self, backend="eager"))
    plain, compiled = teacher_job(), teacher_job(compiled=True)
    assert compiled.optimizer.module.network._compiled_call_impl is not None
    assert list(compiled.result.state_dict()) == list(plain.result.state_dict())
    a, b = (float(job.step(0)["loss"]) for job in (plain, compiled))
    assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiler_that_fails_is_told_and_done_without(monkeypatch):
    def backend(graph, inputs):
        raise RuntimeError("no such kernel")

    real = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: real(self, backend=backend))
    plain, compiled = teacher_job(), teacher_job(compiled=True)
    with pytest.warns(UserWarning, match="compile: failed"):
        found = float(compiled.step(0)["loss"])
    assert found == pytest.approx(float(plain.step(0)["loss"]), rel=1e-5)
    compiled.step(1)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("make", [teacher_job, distill_job])
def test_a_compiler_that_fails_at_the_gradient_is_done_without(make, monkeypatch):
    """The gradient is compiled with the forward pass, where the network can still run as it is."""
    failed = []

    def gradient(graph, inputs):
        failed.append(graph)
        raise RuntimeError("no such kernel")

    backend = aot_autograd(fw_compiler=lambda graph, inputs: graph, bw_compiler=gradient)
    real = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: real(self, backend=backend))
    plain, compiled = make(), make(compiled=True)
    with pytest.warns(UserWarning, match=r"compile: failed \(.*no such kernel.*\); the network runs"):
        numbers = compiled.step(0)
    assert failed
    assert {k: float(v) for k, v in numbers.items()} == pytest.approx(
        {k: float(v) for k, v in plain.step(0).items()}, rel=1e-5
    )
    compiled.step(1)


@pytest.mark.parametrize(
    ("asked", "device", "images", "expected"),
    [
        (True, "cpu", 1, True),
        ("graphs", "cuda", 1, "graphs"),
        (False, "cuda", 10**9, False),
        (None, "cpu", 10**9, False),
        (None, "cuda", precision.TRAINED - 1, False),
    ],
)
def test_long_runs_on_a_gpu_compile(asked, device, images, expected):
    assert precision.compiles(asked, torch.device(device), images, precision.TRAINED) == expected


@pytest.mark.parametrize("kernels", [None, precision])
def test_a_gpu_without_triton_does_without(kernels, monkeypatch):
    monkeypatch.setattr(precision, "triton_kernels_of", lambda device: kernels)
    if kernels is not None:
        assert precision.compiles(None, torch.device("cuda"), precision.TRAINED, precision.TRAINED) is True
        return
    with pytest.warns(UserWarning, match="Triton does not run"):
        assert not precision.compiles(None, torch.device("cuda"), precision.TRAINED, precision.TRAINED)


@pytest.mark.parametrize("asked", [False, True])
def test_a_gpu_is_told_to_repeat_its_bits(asked, monkeypatch):
    """cuDNN measures its kernels unless the same bits are asked for."""

    class OnGPU:
        device = torch.device("cuda")

        def __init__(self, **options):
            self.strategy = type("Strategy", (), {"precision": None})()

        def launch(self):
            pass

    monkeypatch.setattr("lightning_fabric.Fabric", OnGPU)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", asked)
    try:
        open_device("cuda", deterministic=asked)
        assert torch.are_deterministic_algorithms_enabled() == asked
        assert torch.backends.cudnn.benchmark != asked
    finally:
        torch.use_deterministic_algorithms(mode=False)


@pytest.mark.parametrize("asked", [False, True])
def test_a_command_that_trains_nothing_keeps_to_the_same_bits(asked, monkeypatch):
    """cuDNN measures its kernels, unless something in this process has asked for the same bits."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", asked)
    try:
        torch.use_deterministic_algorithms(mode=asked)
        assert choose_device("cuda").type == "cuda"
        assert torch.backends.cudnn.benchmark != asked
    finally:
        torch.use_deterministic_algorithms(mode=False)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.skipif(not hasattr(inductor, "deterministic"), reason="this torch has no such setting")
@pytest.mark.parametrize("asked", [False, True])
def test_compiled_kernels_are_not_chosen_by_measuring_then(asked):
    with inductor.patch(deterministic=False):
        try:
            torch.use_deterministic_algorithms(mode=asked)
            precision.compile_network(tiny_denoiser().network, CPU)
            assert inductor.deterministic == asked
        finally:
            torch.use_deterministic_algorithms(mode=False)


@pytest.mark.parametrize("asked", [False, True])
def test_training_functions_ask_for_the_same_bits(asked, monkeypatch):
    seen = []

    def opened(*_, deterministic):
        seen.append(deterministic)
        return open_device("cpu")

    monkeypatch.setattr(context, "open_device", opened)
    small = {"batch": 2, "images": 2, "device": "cpu", "deterministic": asked}
    teacher = mg.train(tiny_store(), network={"name": "mlp", "hidden": 8}, **small)
    assert mg.distill(teacher, tiny_store(), **small).role == "generator"
    assert len(seen) >= 2
    assert set(seen) == {asked}


# Without a deterministic kernel on a GPU, by the documentation of torch.use_deterministic_algorithms.
NONDETERMINISTIC = re.compile(
    r"aten::(_?(adaptive_)?(avg_pool3d|max_pool|max_unpool|fractional).*|adaptive_avg_pool2d_backward"
    r"|(reflection|replication)_pad.*_backward|upsample_.*_backward|grid_sampler.*_backward|_?cumsum"
    r"|nll_loss2d.*|_ctc_loss.*|_embedding_bag.*|_?histc|bincount|kthvalue|median|put_|scatter_reduce)(\.|$)"
)


class Operations(TorchDispatchMode):
    """Names of the operations of a block, of gradients too."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func._schema.name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("make", [teacher_job, distill_job])
def test_steps_have_no_operation_that_deterministic_refuses(make):
    with Operations() as seen:
        make().step(0)
    assert "aten::convolution_backward" in seen.names
    assert not [name for name in seen.names if NONDETERMINISTIC.match(name)]


def test_the_list_of_such_operations_knows_some():
    x = torch.randn(1, 1, 4, 4, requires_grad=True)
    with Operations() as seen:
        nn.functional.pad(x, (1, 1, 1, 1), mode="reflect").sum().backward()
    assert [name for name in seen.names if NONDETERMINISTIC.match(name)]


def test_graphs_need_a_gpu():
    with pytest.raises(UsageError, match="graphs are for"):
        teacher_job(compiled="graphs")


def test_freed_memory_is_kept_where_glibc_is():
    assert malloc_keep_freed() in {True, False}
    assert torch.ones(1 << 20).sum() == 1 << 20


@needs_gpu
@pytest.mark.parametrize("given", ["full", "sampled"])
def test_distillation_on_a_gpu_does_not_wait_for_it(given):
    """Steps are queued; what would read the device raises."""
    job = distill_job(device="cuda", generator_input=given, images=400)
    for number in range(2):  # libraries and moments set themselves up
        job.step(number)
    with without_waiting():
        for number in range(2, 5):
            job.step(number)
    assert job.guard.poll() == 5
