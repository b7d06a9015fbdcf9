"""`batchrun prices`: what a token costs, which row of which file says so, and where new prices come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.lines import put, say, shown
from batchrun.cli.output import text_or_json
from batchrun.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from batchrun.config import Config
    from batchrun.pricing import PriceBook
    from batchrun.repricing import Repriced

_TARGET = "prices.yaml"


@click.command(context_settings={"auto_envvar_prefix": "BATCHRUN_PRICES"})
@click.argument("model", required=False)
@click.option("--prices", "own", metavar="FILE", type=click.Path(), help="Prices of your own, over the shipped ones.")
@text_or_json("prices")
@click.option("--refresh", is_flag=True, help="Ask the endpoint for its own price list, and write it into FILE.")
@click.option(
    "--import", "taken_in", metavar="JSON", type=click.Path(), help="Write the prices of LiteLLM's file into FILE."
)
@click.option(
    "--provider", default="fireworks_ai", show_default=True, help="Whose prices --import takes, as LiteLLM names it."
)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(), help=f"Where to; by default that of --prices, else {_TARGET}."
)
@click.option(
    "--config", metavar="CONFIG", type=click.Path(), help="A run's configuration: its endpoint, key, proxy and prices."
)
@click.option(
    "--set", "sets", metavar="KEY=VALUE", multiple=True, help="Any key of it, e.g. endpoint.base_url=simulated."
)
def prices(*, model: str | None, own: str | None, form: str, output: str | None, **options: Any) -> None:
    """Show what MODEL costs and why, or all prices in force.

    With --refresh or --import, write a price file and show what changes by it.
    A FILE that is there must be one that this command wrote; rows in it that
    you put there yourself are kept.

    \b
    Example:
      batchrun prices glm-5p3-flash
      batchrun prices --refresh --set endpoint.base_url=simulated -o p.yaml
    """  # noqa: D301 (click reads the backspace)
    from batchrun.config import load_config

    config = load_config(options["config"], overrides={"input": "-", "prices": own}, sets=options["sets"])
    if options["refresh"] or options["taken_in"]:
        if model or (options["refresh"] and options["taken_in"]):
            raise ConfigError(
                "--refresh and --import each write all they find, alone", remedy="batchrun prices --refresh"
            )
        text = _renew(config, output or config.prices or _TARGET, form, options)
    elif output:
        raise ConfigError("-o is for --refresh and --import", remedy="batchrun prices > FILE")
    else:
        text = _told(config, model, form)
    if not put(shown(text)):
        raise StoreError("the prices could not be written", remedy="free the disk")


def _told(config: Config, model: str | None, form: str) -> str:
    from batchrun.cli.price_text import all_as_text, as_json, one_as_text
    from batchrun.pricing import load_prices

    book = load_prices(config.prices, base_url=config.endpoint.base_url)
    if model is None:
        return as_json([("name", price) for price in _rows(book)]) if form == "json" else all_as_text(book, _rows(book))
    found = book.find(model, short_names=config.endpoint.simulated or config.endpoint.is_fireworks)
    deployment = None if found else book.deployment_for(model)
    if found is None and deployment is None:
        raise _unpriced(model, book)
    return as_json([found or ("deployment", deployment)]) if form == "json" else one_as_text(model, found, deployment)


def _rows(book: PriceBook) -> list[Any]:
    """Each row once: one of a short name stands under the id as well."""
    return list({id(price): price for price in book.prices.values()}.values())


def _unpriced(model: str, book: PriceBook) -> ConfigError:
    import difflib

    if "/deployments/" in model:
        remedy = "a deployment is paid by the hour: put a row into `deployments` of your own file, docs/prices.md"
        return ConfigError(f"{model}: runs on a deployment of which no price file says what it costs", remedy=remedy)
    short = {name.rsplit("/", 1)[-1]: name for name in book.prices}
    near = difflib.get_close_matches(model.rsplit("/", 1)[-1], short, n=3)
    remedy = f"did you mean {' or '.join(near)}? Else " if near else ""
    return ConfigError(
        f"{model}: has no price; a run shows it as unpriced, never as $0",
        remedy=f"{remedy}put a row into a file of your own: docs/prices.md",
    )


def _renew(config: Config, path: str, form: str, options: dict[str, Any]) -> str:
    from batchrun.cli.price_text import changes_as_text
    from batchrun.repricing import refresh, take_in

    if path == "-" or path.endswith((".toml", ".json")):
        raise ConfigError(f"{path}: a price file is YAML, and has a name", remedy=f"-o {_TARGET}")
    done = take_in(options["taken_in"], options["provider"], path) if options["taken_in"] else refresh(config, path)
    _say(done, path)
    if form == "json":
        import msgspec

        return msgspec.json.format(msgspec.json.encode(done)).decode()
    return changes_as_text(done.changes)


def _say(done: Repriced, path: str) -> None:
    for reason, count in done.left_out.items():
        say(f"left out: {count:,} {'entry' if count == 1 else 'entries'} {reason}")
    say(f"wrote {done.rows:,} prices to {path}; a run uses them with --set prices={path}")
