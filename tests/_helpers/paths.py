"""Where things lie."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
BUNDLES = ROOT / "bundles"
SCRIPTS = ROOT / "scripts"
#: Vectors of the released code, see its README.
GOLDEN_FOLDER = Path(__file__).parent / "golden"
#: Real data beside the checkout, where there are any.
SHARED = ROOT.parent / "shared"
