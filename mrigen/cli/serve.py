"""``mrigen serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

LIMITS = "Limits"


def serve(
    *,
    solver: Annotated[
        str, typer.Option(help="Name, with parameters if need be, as of `mrigen reconstruct`.")
    ] = "cg-sense:steps=12",
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model folder of a teacher or a generator, or its run's, for solvers that use one."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but the loopback needs --token-file.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any that is free.")] = 9002,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with a word of 16 characters or more that clients must send first."),
    ] = None,
    complex_: Annotated[
        bool, typer.Option("--complex/--magnitude", help="What the pixels of the images are.")
    ] = False,
    acs_lines: Annotated[
        int | None, typer.Option(min=1, help="Lines around DC for the coil maps; by default all there are.")
    ] = None,
    virtual_coils: Annotated[int, typer.Option(min=0, help="Compress to so many coils; 0 keeps all.")] = 0,
    kernel_width: Annotated[int, typer.Option(help="ESPIRiT's kernel.")] = 6,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps.")] = "auto",
    connections: Annotated[
        int, typer.Option(min=1, help="Clients at once; more are turned away.", rich_help_panel=LIMITS)
    ] = 4,
    timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Seconds within which each message must have come or been taken as a whole.",
            rich_help_panel=LIMITS,
        ),
    ] = 60.0,
    memory: Annotated[
        int,
        typer.Option(
            min=1, help="MiB of samples and coil maps that a client may occupy.", rich_help_panel=LIMITS
        ),
    ] = 1024,
) -> None:
    """Reconstruct slices while a scanner, or another client, streams their lines (ISMRMRD's messages, TCP).

    Examples:

    - on this machine only: `mrigen serve`

    - a teacher, one step: `mrigen serve --model TEACHER --solver ambient-one-step --port 9010`

    - for others: `mrigen serve --host 0.0.0.0 --token-file token --timeout 20`

    Clients send config, header, acquisitions and close. They get an image message for each slice, contrast,
    phase, repetition and set once its last line has come, and close at the end. A client must read while it
    sends. A fault is a line here and a text message to the client: a slice without ACS lines costs that
    slice, a damaged message the connection. Cartesian, two-dimensional k-space only.

    The token is sent as a configuration, `token=...`, and nothing is encrypted: beyond a network of your own
    use a tunnel, `ssh -L 9002:localhost:9002`.
    """
    from pydantic import ValidationError

    from mrigen.engine.launch import choose_device
    from mrigen.errors import UsageError
    from mrigen.model import Model
    from mrigen.prep.kspace.options import Options
    from mrigen.registry import describe
    from mrigen.serving.server import Limits, Server
    from mrigen.serving.session import Reconstructor

    token = None
    if token_file is not None:
        try:
            token = token_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--token-file {token_file}: cannot be read; give a file of one word") from error
    try:
        prep = Options(
            acs_lines=acs_lines, virtual_coils=virtual_coils, kernel_width=kernel_width, noise_whitening=False
        )
    except ValidationError as error:
        raise UsageError(f"mrigen serve: {describe(error)}") from error
    chosen = choose_device(device)
    opened = None if model is None else Model.load(model, chosen)
    reconstructor = Reconstructor(solver, opened, prep, chosen, seed=seed, complex_valued=complex_)
    limits = Limits(connections, timeout, memory << 20)

    def log(line: str) -> None:
        typer.echo(line, err=True)

    reconstructor.warm_up()
    server = Server(reconstructor, host, port, token=token, limits=limits, log=log)
    typer.echo(f"{solver} on {server.address[0]} port {server.address[1]}; Ctrl-C ends it")
    try:
        server.serve()
    except KeyboardInterrupt:
        typer.echo("stopped")
