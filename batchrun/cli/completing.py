"""Completion with the Tab key in a zsh that nothing has prepared for it."""

from __future__ import annotations

from click.shell_completion import ZshComplete

_PREPARED = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }"


class Zsh(ZshComplete):
    """On macOS, and where `.zshrc` is short, `compdef` is no command before `compinit`."""

    source_template = ZshComplete.source_template.replace("\n", f"\n{_PREPARED}\n", 1)
