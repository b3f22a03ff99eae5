"""The ``mrigen`` command: thin functions; heavy imports happen inside them."""

import os
import re
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from mrigen import __version__, memory, ranks
from mrigen.cli.layout import Command
from mrigen.errors import LostProcessError, NonFiniteLossError, UsageError, one_line

TOGETHER = ("train", "distill", "run", "sample", "evaluate")
PREPARING = ("run", "simulate", "prep-fastmri", "prep-images")
TRAINING = ("run", "train", "distill")
GPU_FULL = re.compile(  # as CUDA and its libraries say it where torch's allocator is not asked
    r"CUDA error: out of memory|CU(BLAS|DNN|SOLVER)_STATUS_ALLOC_FAILED|CUFFT_ALLOC_FAILED"
)


class Index(TyperGroup):
    """The commands; their list is plain text, because what lays out whole pages takes longer to load."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "rich_markup_mode": None})

    def invoke(self, ctx: Any) -> Any:
        """Run the command; typer would end silently at Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise typer.Abort from error

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Every command with the whole first sentence of its help."""
        del ctx
        rows = [(name, command.get_short_help_str(limit=1000)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


app = typer.Typer(
    name="mrigen",
    cls=Index,
    help="Learn one-step generators of clean images from corrupted measurements only, MRI first.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(shown: bool) -> None:
    if shown:
        typer.echo(f"mrigen {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks of errors."),
) -> None:
    """Options that every command shares."""
    del version
    name = context.invoked_subcommand
    if ranks.world_size() > 1 and name not in TOGETHER:
        raise UsageError(f"mrigen {name}: works in one process; start it without torchrun")
    if name in (*PREPARING, *TRAINING):
        memory.malloc_keep_freed(one_arena=name in PREPARING)
    context.obj = {"debug": debug}


def main() -> None:
    """Entry point: one line and exit code 2 for a user's mistake, a traceback only with --debug."""
    debug = "--debug" in sys.argv[1:]
    arguments = [a for a in sys.argv[1:] if a != "--debug"]
    if debug:
        arguments.insert(0, "--debug")
    else:
        warnings.formatwarning = _warning_line
    sys.exit(run(arguments))


def _warning_line(message: Warning | str, *_: Any, **__: Any) -> str:
    """A warning without the line of code that gave it."""
    return f"mrigen: warning: {one_line(' '.join(str(message).split()))}\n"


def run(arguments: list[str]) -> int:
    """Run the command line in this process and return its exit code."""
    debug = "--debug" in arguments
    command = typer.main.get_command(app)
    try:
        result = command.main(args=arguments, prog_name="mrigen", standalone_mode=False)
    except (UsageError, LostProcessError, NonFiniteLossError) as error:
        if debug:
            raise
        return _fail(str(error), 2 if isinstance(error, UsageError) else 1)
    except (KeyboardInterrupt, typer.Abort):
        again = "the same command without --redo" if "--redo" in arguments else "the same command again"
        return _fail(f"interrupted; run {again} to continue", 130)
    except Exception as error:
        if hasattr(error, "format_message"):
            return _command_line_fault(error)
        if debug:
            raise
        if (fault := _system_fault(error)) is not None:
            return _fail(fault, 2)
        return _fail(f"{type(error).__name__}: {error} (--debug shows where)", 1)
    return result if isinstance(result, int) else 0


def _command_line_fault(error: Any) -> int:
    """A wrong option or a command without arguments; typer's own click is not importable by one name."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return 0
    where = error.ctx.command_path if getattr(error, "ctx", None) else "mrigen"
    return _fail(f"{error.format_message()} (see {where} --help)", int(error.exit_code))


def _system_fault(error: Exception) -> str | None:
    """What the system refused: a file (the disk is full, a name too long, a folder not ours), or memory."""
    if type(error).__name__ == "OutOfMemoryError" or GPU_FULL.search(str(error)):  # torch may not be imported
        tried = re.search(r"Tried to allocate ([\d.]+ \w+)", str(error))
        more = "" if tried is None else f" ({tried[1]} more were asked for)"
        return (
            f"the GPU's memory is full{more}: lower teacher.micro_batch or distill.micro_batch of a "
            "training, or --batch of other commands, or end what else uses the GPU (nvidia-smi)"
        )
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error):
        return (
            "there is not enough memory: lower teacher.micro_batch or distill.micro_batch of a training, or "
            "--batch of other commands, or end what else uses the memory"
        )
    if isinstance(error, OSError) and error.errno is not None:
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return f"{where}{error.strerror}; check the path, its permissions and the free space"
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # pathlib's own
        return f"{error}; give another path"
    return None


def _fail(message: str, code: int) -> int:
    """Say why; of several processes each says what went wrong in it, and one per node what the user did."""
    if code == 1 or ranks.local_rank() == 0:
        who = f" (process {ranks.rank()})" if ranks.rank() else ""
        typer.secho(f"mrigen{who}: {one_line(message)}", err=True, fg=typer.colors.RED)
    return code


from mrigen.cli import (  # noqa: E402
    checkpoints,
    evaluate,
    info,
    members,
    models,
    prep_fastmri,
    prep_images,
    recipes,
    reconstruct,
    recoverable,
    report,
    sample,
    serve,
    simulate,
    study,
)

app.command("simulate", cls=Command)(simulate.simulate)
app.command("prep-fastmri", cls=Command)(prep_fastmri.prep_fastmri)
app.command("prep-images", cls=Command)(prep_images.prep_images)
app.command("train", cls=Command)(study.train)
app.command("distill", cls=Command)(study.distill)
app.command("sample", cls=Command)(sample.sample)
app.command("reconstruct", cls=Command)(reconstruct.reconstruct)
app.command("serve", cls=Command)(serve.serve)
app.command("report", cls=Command)(report.report)
app.command("evaluate", cls=Command)(evaluate.evaluate)
app.command("info", cls=Command)(info.info)
app.command("audit", cls=Command)(evaluate.audit)
app.command("recoverable", cls=Command)(recoverable.recoverable)
app.command("run", cls=Command)(study.run)
app.command("stop", cls=Command)(study.stop)
app.add_typer(recipes.app, name="recipes")
app.command("list", cls=Command)(members.list_members)
app.command("models", cls=Command)(models.models)
app.command("publish", cls=Command)(models.publish)
app.command("import-checkpoint", cls=Command)(checkpoints.import_checkpoint)
app.command("export", cls=Command)(checkpoints.export)
app.command("doctor", cls=Command)(info.doctor)
