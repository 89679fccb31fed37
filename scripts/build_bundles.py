#!/usr/bin/env python
"""Write the self-contained bundles and overlays that users run, out of the sources in bundles/src.

A bundle is bundles/src/base.json with a dataset's source laid over it. The overlays evaluate.json and inference.json
share bundles/src/overlays/trained_run.json, which restores a run, and add their own source. Each file gets the ids
that afma_med.bundle.ids has rules for.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from afma_med.bundle.ids import Stage, checked_ids

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
SOURCES = BUNDLES / "src"

# Characters of a line, and of an entry that shares its line with others.
_WIDTH, _SHORT = 120, 60


def build_bundle(source: Path) -> dict[str, Any]:
    """Return the bundle of one dataset source; the source's own ids come first."""
    own, base = read(source), read(source.with_name("base.json"))
    merged = ConfigParser.load_config_files([str(source.with_name("base.json")), str(source)])
    # A recipe has what all of its kind share; a dataset without a sample has no recipe for it.
    shared = base["recipes"]
    merged["recipes"] = {kind: {**shared[kind], **recipe} if recipe else {} for kind, recipe in own["recipes"].items()}
    # Keys such as "full_image#save" are merged into the ids that they change.
    order = ["imports", "bundle_root", *own, *base]
    return with_checks({key: merged[key] for key in dict.fromkeys(order) if key in merged}, "train")


def build_overlay(stage: Stage) -> dict[str, Any]:
    """Return an overlay for a trained run; keys such as "validate#inferer" stay, for MONAI to merge."""
    folder = SOURCES / "overlays"
    return with_checks({**read(folder / "trained_run.json"), **read(folder / f"{stage}.json")}, stage)


def with_checks(configuration: Mapping[str, Any], stage: Stage) -> dict[str, Any]:
    """Return a configuration with its checked ids, and with initialize, run and finalize at the end."""
    last = {key: configuration[key] for key in ("initialize", "run", "finalize")}
    return {
        **{key: configuration[key] for key in configuration if key not in last},
        "checked_ids": checked_ids(stage),
        **last,
    }


def built_files() -> Iterator[tuple[Path, str]]:
    """Yield every built file and its text."""
    for source in sorted(SOURCES.glob("*.json")):
        if source.name != "base.json":
            yield BUNDLES / f"{source.stem}_afma.json", as_text(build_bundle(source))
    stages: tuple[Stage, ...] = ("evaluate", "inference")
    for stage in stages:
        yield BUNDLES / f"{stage}.json", as_text(build_overlay(stage))


def read(path: Path) -> dict[str, Any]:
    """Read a source as it is written."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def as_text(configuration: Mapping[str, Any]) -> str:
    """Format a configuration as JSON, with short lists and dictionaries on one line."""
    return f"{format_value(configuration, indent=0, before=0)}\n"


def format_value(value: Any, *, indent: int, before: int) -> str:
    """Format a value that follows ``before`` characters of a line that is indented by ``indent``."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or (indent and before + len(line) <= _WIDTH):
        return line
    inner, parts = indent + 4, []
    for key, one in value.items() if isinstance(value, dict) else ((None, one) for one in value):
        name = "" if key is None else f"{json.dumps(key)}: "
        parts.append(name + format_value(one, indent=inner, before=inner + len(name) + 1))
    start, end = "{}" if isinstance(value, dict) else "[]"
    lines = fill(parts, _WIDTH - inner) if indent else parts
    margin = " " * inner
    return f"{start}\n{margin}" + f",\n{margin}".join(lines) + f"\n{' ' * indent}{end}"


def fill(parts: Sequence[str], width: int) -> list[str]:
    """Join short parts to lines, each as long as it may be; long ones keep a line of their own."""
    lines: list[str] = []
    open_line = False
    for part in parts:
        is_short = len(part) <= _SHORT and not part.endswith(("}", "]"))
        if lines and open_line and is_short and len(lines[-1]) + len(part) + 3 <= width:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
        open_line = is_short
    return lines


def main() -> int:
    """Write the files, or with --check print which ones differ from their sources."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is out of date")
    check = parser.parse_args().check
    stale = []
    for target, text in built_files():
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            stale.append(target)
            if not check:
                target.write_text(text, encoding="utf-8")
        print(f"{target}: {'up to date' if target not in stale else 'out of date' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
