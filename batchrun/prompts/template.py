"""Templates (Jinja2, sandboxed): what they may say, and how a row fills them in."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

from batchrun.errors import ConfigError
from batchrun.prompts.unfit import names, unfit

if TYPE_CHECKING:
    import jinja2

    from batchrun.types import Prompt


def compile_template(text: str) -> jinja2.Template:
    """Make a template of `request.template`.

    Raises:
        ConfigError: it does not compile, or it refers to another one.
    """
    import jinja2.meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True, finalize=_refuse_null
    )
    del environment.globals["lipsum"], environment.filters["random"]  # the same row must give the same request
    try:
        if list(jinja2.meta.find_referenced_templates(environment.parse(text))):
            raise ConfigError("request.template refers to another template", remedy="put all of it into one text")
        return environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        problem = f"request.template, line {error.lineno}: {error.message}"
        raise ConfigError(problem, remedy="correct it; columns are written {{ column }}") from error
    except (SyntaxError, RecursionError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"request.template does not compile: {error}", remedy="make it simpler") from error


def _refuse_null(value: Any) -> Any:
    if value is None:
        import jinja2

        raise jinja2.UndefinedError("a null would be printed as `None`")
    return value


def fill_in(template: jinja2.Template, prompt: Prompt) -> str:
    """Fill in the columns of a row; `row` is all of them, for names that are no identifiers: {{ row["Order no."] }}."""
    from jinja2 import UndefinedError

    row = prompt.row
    try:
        return template.render({"row": row, **row})
    except UndefinedError as error:
        nulls = [name for name, value in row.items() if value is None]
        problem = f"the template does not fit the row: {error}; columns here: {names(row)}"
        missing = re.match(r"'(\w+)' is undefined|.* has no attribute '(.*)'", str(error))
        near = difflib.get_close_matches(missing[1] or missing[2], row, n=1) if missing else []
        remedy = f"did you mean `{near[0]}`?" if near else "correct the template, or give every row that column"
        raise unfit(prompt, problem + (f"; null: {names(nulls)}" if nulls else ""), remedy) from error
    except Exception as error:  # a template may raise anything, and one bad row never stops the others
        raise unfit(prompt, f"the template fails: {type(error).__name__}: {error}", "correct the template") from error
