"""``mrigen run``, ``train`` and ``distill``: the stages of a recipe."""

from __future__ import annotations

import json
import shlex
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mrigen.recipe.study import Study

PATIENCE = 30.0

Recipe = Annotated[
    str, typer.Argument(help="A shipped recipe's name (`mrigen recipes list`) or a YAML file.")
]
Out = Annotated[
    Path | None, typer.Option(help="Run folder; by default runs/RECIPE. The same command continues it.")
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Data instead of the recipe's: a store of `mrigen prep-fastmri` or `prep-images`, or what the "
        "recipe prepares one from (folder or archive of images, folder of scans)."
    ),
]
Reference = Annotated[
    Path | None, typer.Option(help="Its references for evaluation; by default the folder beside the store.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, checked: `--set teacher.batch=32`."),
]
Seed = Annotated[int | None, typer.Option(help="Key of all randomness, instead of the recipe's.")]
Smoke = Annotated[
    bool,
    typer.Option(
        "--smoke",
        help="Everything at tiny size, in seconds, on stand-in data unless --data says otherwise: do all "
        "parts fit?",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")]


class Stage(StrEnum):
    """Stages that can be made anew."""

    teacher = "teacher"
    laps = "laps"
    distill = "distill"
    evaluate = "evaluate"


class Strategy(StrEnum):
    """How several processes train one network."""

    ddp = "ddp"
    fsdp = "fsdp"


Redo = Annotated[
    Stage | None,
    typer.Option(
        help="Make a stage anew, and those that build on it: their results are deleted first. Without it "
        "nothing is deleted, and results of other settings are refused."
    ),
]
Spread = Annotated[
    Strategy,
    typer.Option(
        "--strategy",
        help="Under torchrun: every process has the whole network (ddp), or a part of its weights, gradients "
        "and moments (fsdp), for networks too large for one device.",
    ),
]


class Logger(StrEnum):
    """Where trainings log beside their log.jsonl."""

    tensorboard = "tensorboard"
    csv = "csv"
    wandb = "wandb"
    mlflow = "mlflow"


Loggers = Annotated[
    list[Logger] | None,
    typer.Option(
        "--logger",
        help="Log numbers of every step, and images of every snapshot (not csv), there too; may be given "
        "several times.",
    ),
]


def run(
    recipe: Recipe,
    out: Out = None,
    data: Data = None,
    reference: Reference = None,
    set_: Set = None,
    seed: Seed = None,
    device: Device = "auto",
    strategy: Spread = Strategy.ddp,
    redo: Redo = None,
    smoke: Smoke = False,
    logger: Loggers = None,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print summary.json at the end, and all else on standard error."),
    ] = False,
) -> None:
    """Run all stages of a recipe: prepare, train, distil, evaluate; finished ones are skipped.

    Examples:

    - `mrigen run demo/brain`

    - a folder or archive of images, or a store: `mrigen run celeba/deblur-s20 --data celeba.zip`

    - a trial in seconds: `mrigen run celeba/deblur-s20 --smoke`

    - longer, it continues: `mrigen run demo/brain --set distill.images=40000`

    - another student: `mrigen run demo/brain --set distill.loss.name=dmd --redo distill`

    - eight GPUs: `torchrun --nproc-per-node 8 -m mrigen run fastmri/brain-r4 --data prepared --set
      teacher.micro_batch=1 --set distill.micro_batch=3`

    Changes of `evaluate` make only the evaluation again: `--set evaluate.sampler.steps=40`. `--seed 1 --out
    runs/brain-seed1` is another seed.
    """
    study = _study(
        recipe,
        out,
        data,
        reference,
        set_,
        seed,
        device,
        strategy,
        smoke=smoke,
        loggers=logger,
        on_stderr=as_json,
    )
    study.run(None if redo is None else redo.value)
    if smoke:
        _print(study, "note: all parts fit; the numbers of a smoke run say nothing else")
    if as_json and not study.console.quiet:
        typer.echo((study.out / "summary.json").read_text(encoding="utf-8"), nl=False)


def train(
    recipe: Recipe,
    out: Out = None,
    data: Data = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="Start from the weights of a teacher's model folder, of one's own or imported: `--set "
            "teacher.init=...` of every command of this run."
        ),
    ] = None,
    set_: Set = None,
    seed: Seed = None,
    device: Device = "auto",
    strategy: Spread = Strategy.ddp,
    redo: Redo = None,
    smoke: Smoke = False,
    logger: Loggers = None,
) -> None:
    """Train the corruption-aware teacher of a recipe on measurements alone.

    An interrupted run continues where it stopped, and a finished one where `teacher.images` is raised: with
    constant or rising learning rates exactly as if it had been that long from the start. `mrigen sample
    RUN/teacher` draws from the newest snapshot meanwhile, and `mrigen stop RUN` ends it early.

    Examples:

    - `mrigen train fastmri/brain-r4 --data prepared --out runs/r4`

    - a smaller batch: `mrigen train fastmri/brain-r4 --data prepared --set teacher.batch=4`

    - fine-tuning: `mrigen train fastmri/brain-r4 --data knees --init imported --set
      teacher.optimizer.lr=1e-5`
    """
    if init is not None:
        set_ = [*(set_ or []), f"teacher.init={json.dumps(str(init))}"]
    study = _study(recipe, out, data, None, set_, seed, device, strategy, smoke=smoke, loggers=logger)
    study.prepare()
    _discard(study, redo, Stage.teacher, Stage.laps)
    study.require_unused_teacher(student=False)
    study.train()
    _print(study, f"teacher: {study.teacher_folder}")
    _print(study, f"next: {_command('distill', recipe, study.out, data, set_, seed, smoke=smoke)}")


def distill(
    recipe: Recipe,
    out: Out = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Model folder of a given teacher, or the folder RUN/teacher of another run, whose newest "
            "snapshot is taken while it is trained; by default the run folder's own."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            "--maps",
            help="Measurement store: coil maps, masks and the selection metric come from it.",
        ),
    ] = None,
    set_: Set = None,
    seed: Seed = None,
    device: Device = "auto",
    strategy: Spread = Strategy.ddp,
    redo: Redo = None,
    smoke: Smoke = False,
    logger: Loggers = None,
) -> None:
    """Distil a teacher into a one-step generator under the same corruption.

    A given teacher of natural images needs no data where nothing is selected
    (`distill.selection.every_images=null`); one of MRI takes coil maps and masks from a store, no k-space.

    Examples:

    - after `mrigen train`: `mrigen distill fastmri/brain-r4 --maps prepared --out runs/r4`

    - a released teacher: `mrigen distill fastmri/brain-r4 --teacher imported --maps prepared`

    - one of natural images, without data: `mrigen distill celeba/denoise-s20 --teacher imported --set
      distill.selection.every_images=null`
    """
    study = _study(
        recipe, out, data, None, set_, seed, device, strategy, teacher, smoke=smoke, loggers=logger
    )
    if not study.data_free:
        study.prepare()
    _discard(study, redo, Stage.teacher, Stage.laps, Stage.distill)
    study.require_unused_teacher()
    study.train()
    study.distill()
    needs_maps = study.student.description.generator_input == "sampled"
    words = ["sample", str(study.student_folder), "--seeds", "0-99", "--out", "samples.h5"]
    words += ["--maps", str(study.store_folder)] if needs_maps else []
    _print(study, f"generator: {study.student_folder}")
    _print(study, f"next: {shlex.join(['mrigen', *words])}")


def stop(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder of `mrigen run`, `train` or `distill`.")
    ],
) -> None:
    """End the training that is running in RUN as if its images were reached.

    The step that is computed is finished, the state saved, the generator selected, the model written; the
    study goes on with its next stage. Ctrl-C, in contrast, interrupts: the same command continues the stage.
    A larger number of images (`--set teacher.images=...`) trains an ended stage on.

    Examples:

    - `mrigen stop runs/demo/brain`
    """
    from mrigen.engine.stops import RUNNING, request_end, running
    from mrigen.errors import UsageError

    if not run.is_dir():
        raise UsageError(f"{run}: no such run folder")
    for stage in (*sorted(path.parent for path in run.glob(f"*/{RUNNING}")), run):
        record = running(stage)
        answer = "over" if record is None else request_end(stage, record, PATIENCE)
        if answer == "ending":
            typer.echo(f"{stage}: ends after this step as finished; its model will be {stage / 'model'}")
            return
        if answer == "silent":
            typer.echo(f"{stage}: asked to end as finished; it will, after its present step or measurement")
            return
    raise UsageError(f"{run}: nothing is being trained there now; mrigen sample {run} uses the newest model")


def _command(
    name: str,
    recipe: str,
    out: Path,
    data: Path | None,
    overrides: list[str] | None,
    seed: int | None,
    *,
    smoke: bool,
) -> str:
    """A command of the same study, to be copied."""
    words = ["mrigen", name, recipe, "--out", str(out)]
    words += ["--data", str(data)] if data is not None else []
    words += [word for override in overrides or [] for word in ("--set", override)]
    words += ["--seed", str(seed)] if seed is not None else []
    return shlex.join([*words, "--smoke"] if smoke else words)


def _print(study: Study, line: str) -> None:
    study.console.print(line, highlight=False, markup=False, soft_wrap=True)


def _discard(study: Study, redo: Stage | None, *stages: Stage) -> None:
    """Delete what ``--redo`` says, if the command has such a stage."""
    from mrigen.errors import UsageError

    if redo is None:
        return
    if redo not in stages:
        raise UsageError(f"--redo {redo.value}: this command has no such stage; give {' or '.join(stages)}")
    study.discard(redo.value)


def _study(
    recipe: str,
    out: Path | None,
    data: Path | None,
    reference: Path | None,
    overrides: list[str] | None,
    seed: int | None,
    device: str,
    strategy: Strategy,
    teacher: Path | None = None,
    *,
    smoke: bool,
    loggers: list[Logger] | None,
    on_stderr: bool = False,
) -> Study:
    from rich.console import Console

    from mrigen import ranks
    from mrigen import recipe as recipes

    settings = [*(overrides or []), *([] if seed is None else [f"seed={seed}"])]
    loaded = recipes.load(recipe, settings)  # before what takes seconds to import
    from mrigen.recipe import smoke as small
    from mrigen.recipe.study import Study

    if data is not None:
        loaded = loaded.model_copy(update={"data": loaded.data.of_source(data)})
    name = loaded.name
    if smoke:
        loaded, name = small.smoke(loaded), f"{name}-smoke"
    folder = out if out is not None else Path("runs") / name
    console = Console(stderr=on_stderr, quiet=ranks.rank() > 0)
    return Study(
        loaded,
        folder,
        console,
        device,
        teacher,
        reference,
        strategy.value,
        loggers=[each.value for each in loggers or ()],
    )
