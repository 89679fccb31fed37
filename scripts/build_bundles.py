#!/usr/bin/env python
"""Merge bundles/src/base.json with each dataset's source into the self-contained bundles that users run."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from monai.bundle import ConfigParser

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"


def build_bundle(source: Path) -> str:
    """Return the JSON text of the bundle of one dataset source; the source's own ids come first."""
    own = json.loads(source.read_text(encoding="utf-8"))
    base = ConfigParser.load_config_files([str(source.with_name("base.json"))])
    merged = ConfigParser.load_config_files([str(source.with_name("base.json")), str(source)])
    # Keys such as "whole#save" have gone into what they change.
    order = ["imports", "bundle_root", *own, *base]
    return (
        json.dumps({key: merged[key] for key in dict.fromkeys(order) if key in merged}, indent=4, ensure_ascii=False)
        + "\n"
    )


def main() -> int:
    """Write the bundles, or with --check say which ones differ from their sources."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a bundle is out of date")
    check = parser.parse_args().check
    stale = []
    for source in sorted((BUNDLES / "src").glob("*.json")):
        if source.name == "base.json":
            continue
        target = BUNDLES / f"{source.stem}_afma.json"
        text = build_bundle(source)
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            stale.append(target)
            if not check:
                target.write_text(text, encoding="utf-8")
        print(f"{target}: {'up to date' if target not in stale else 'out of date' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
