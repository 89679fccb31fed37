#!/usr/bin/env python
"""Run the Python blocks of tutorial.md and write what each one prints into the `text` block below it.

python docs/run_tutorial.py                 # a few minutes on one CPU core
python docs/run_tutorial.py --folder DIR    # work in DIR; pictures are copied to docs/pictures
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).resolve().parent
BLOCK = re.compile(r"```python\n(?P<code>.*?)```\n(?:\n```text\n.*?```\n)?", flags=re.DOTALL)


def main() -> None:
    """Run the page and write it again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", help="where the blocks run (default: a temporary folder)")
    folder = Path(parser.parse_args().folder or tempfile.mkdtemp()).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    page = DOCS / "tutorial.md"
    namespace: dict[str, object] = {"__name__": "tutorial"}

    def run(match: re.Match[str]) -> str:
        code = match["code"]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(page), "exec"), namespace)
        output = "".join(f"{line.rstrip()}\n" for line in printed.getvalue().splitlines())
        return f"```python\n{code}```\n" + (f"\n```text\n{output}```\n" if output else "")

    text = page.read_text(encoding="utf-8")
    os.chdir(folder)
    page.write_text(BLOCK.sub(run, text), encoding="utf-8")
    for picture in folder.glob("tutorial_*.png"):
        small = Image.open(picture).convert("RGB").quantize(128)
        small.save(DOCS / "pictures" / picture.name, optimize=True)


if __name__ == "__main__":
    main()
