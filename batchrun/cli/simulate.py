"""`batchrun simulate`: the simulated endpoint, a real HTTP server on loopback."""

from __future__ import annotations

import click


@click.command(context_settings={"auto_envvar_prefix": "BATCHRUN_SIMULATE"})
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="Port; 0 takes one that is free."
)
@click.option(
    "--scenario",
    metavar="FILE",
    type=click.Path(),
    help="YAML: latency, limits and faults; see configs/simulated-scenario.yaml.",
)
@click.option(
    "--ledger", metavar="FILE", type=click.Path(), help="Append a JSON line for every request that would be charged."
)
@click.option("--api-key", metavar="KEY", help="Answer 401 to every other key. By default none is needed.")
@click.option(
    "--exit-with-stdin", is_flag=True, hidden=True, help="End when stdin ends, and leave SIGINT to the parent."
)
def simulate(
    *,
    host: str,
    port: int,
    scenario: str | None,
    ledger: str | None,
    api_key: str | None,
    exit_with_stdin: bool,
) -> None:
    """Serve a simulated endpoint that speaks the Fireworks wire and costs nothing.

    The first line on stdout is its base URL. The same prompt always gets the same answer, which says that it is
    simulated. GET /ledger tells what was served so far. Ctrl-C ends it.

    \b
    Example:
      batchrun simulate --port 8099 --ledger charged.jsonl &
      batchrun run prompts.jsonl -o out -m simulated --set endpoint.base_url=http://127.0.0.1:8099/v1
    """  # noqa: D301 (click reads the backspace)
    from batchrun.simulated.scenario import load_scenario
    from batchrun.simulated.server import run_server

    run_server(
        load_scenario(scenario), host=host, port=port, ledger=ledger, api_key=api_key, exit_with_stdin=exit_with_stdin
    )
