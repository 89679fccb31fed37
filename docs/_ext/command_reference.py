"""The directive ``command-reference``: the commands of a parser of argparse, with their options and examples."""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from afma_med.cli import build_parser


def describe(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield the page of a parser in Markdown: one section for each command."""
    [commands] = (one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        yield from (f"## {name}", "", escape(command.description or ""), "")
        usage = textwrap.fill(command.format_usage().removeprefix("usage: "), 100, subsequent_indent="    ")
        yield from ("```text", usage, "```", "")
        yield from ("| argument | meaning |", "|---|---|")
        for action in command._actions:
            if action.dest != "help":
                meaning = (action.help or "") % {"default": action.default, "prog": command.prog}
                yield f"| {spelling(action)} | {escape(meaning)} |"
        _, _, examples = (command.epilog or "").partition("examples:\n")
        yield from ("", "```bash", *(line.removeprefix("  ") for line in examples.splitlines()), "```", "")


def spelling(action: argparse.Action) -> str:
    """Return how an argument is written: its names, and its value if it takes one."""
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper())
    if not action.option_strings:
        return f"`{value}`"
    names = ", ".join(action.option_strings)
    return f"`{names}`" if action.nargs == 0 else f"`{names} {value}`"


def escape(text: str) -> str:
    """Escape the characters of the help that are marks in Markdown, and write options as code."""
    return re.sub(r"(?<!\S)(--\w+)", r"`\1`", re.sub(r"([*<>|$]|(?<!-)_)", r"\\\1", text))


class CommandReference(SphinxDirective):
    """Insert the sections of the commands of ``afma``."""

    def run(self) -> list[nodes.Node]:
        """Build the sections."""
        container = nodes.container()
        container.document = self.state.document
        lines = StringList(list(describe(build_parser())))
        self.state.nested_parse(lines, self.content_offset, container, match_titles=True)
        return container.children


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("command-reference", CommandReference)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
