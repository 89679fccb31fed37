#!/usr/bin/env python
"""Serve a packaged bundle with MONAI Label, request a segmentation over HTTP, and compare it with the package's own.

Run it by hand, in an environment of its own: MONAI Label 0.8.5 needs older versions of some packages.

    python -m venv label
    label/bin/pip install monailabel . "pydicom<3" "dicomweb-client<0.60" "pynetdicom<3"
    label/bin/python scripts/try_monai_label.py packages/camvid_afma data/camvid/test/0001TP_008550.png

It exits with 0 if the server's segmentation is that of `configs/inference.json` in the package, pixel by pixel.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from PIL import Image

_APP = Path(sys.prefix, "monailabel", "sample-apps", "monaibundle")
_VOLUMES = (".nii", ".nii.gz")


def main() -> int:
    """Compare the two segmentations, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="folder that `afma package` wrote")
    parser.add_argument("image", type=Path, help="image or volume")
    parser.add_argument("--minutes", type=float, default=5, help="longest wait for the server (default: %(default)s)")
    given = parser.parse_args()
    if not _APP.is_dir():
        parser.error(f"MONAI Label must be in this environment; there is no {_APP}. pip install monailabel")
    package, image = given.package.resolve(), given.image.resolve()
    with tempfile.TemporaryDirectory() as folder:
        own = predict(package, image, Path(folder, "own"))
        with serve(package, Path(folder), minutes=given.minutes) as address:
            theirs = request(address, package.name, image, Path(folder, "served.nii.gz"))
    if own.shape != theirs.shape:
        print(f"The server's segmentation has the size {theirs.shape}, that of the package {own.shape}.")
        return 1
    agree = float((own == theirs).mean())
    classes = np.unique(theirs).astype(int).tolist()
    print(
        f"MONAI Label served {package.name}: size {theirs.shape}, classes {classes}; {agree:.2%} of the pixels are "
        "those of the package's own prediction."
    )
    return 0 if agree == 1 else 1


def predict(package: Path, image: Path, folder: Path) -> NDArray[np.float64]:
    """Predict with the package's own inference."""
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    command += ["--input", str(image), "--prediction_dir", str(folder)]
    done = subprocess.run(
        command, cwd=package, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )
    if done.returncode:
        raise RuntimeError(f"the package's own inference failed:\n{done.stdout[-3000:]}")
    [path] = [path for path in folder.rglob("*") if path.is_file() and "color" not in path.parts]
    return read(path)


@contextmanager
def serve(package: Path, folder: Path, *, minutes: float) -> Iterator[str]:
    """Start a server with the package on the loopback, and stop it at the end."""
    app = folder / "app"
    shutil.copytree(_APP, app)
    shutil.copytree(package, app / "model" / package.name)
    (folder / "studies").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", str(app)]
    command += ["--studies", str(folder / "studies"), "--host", "127.0.0.1", "--port", str(port)]
    for name, value in (("models", package.name), ("zoo_source", "none"), ("skip_trainers", "true"), ("sam2", "false")):
        command += ["--conf", name, value]
    # MONAI Label calls programs of its environment.
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.prefix, "bin")), os.environ["PATH"]])}
    log = folder / "server.log"
    with log.open("w", encoding="utf-8") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/info/", server, time.monotonic() + 60 * minutes)
        yield address
    except Exception:
        server.terminate()
        server.wait()
        print(log.read_text(encoding="utf-8")[-5000:])
        raise
    finally:
        server.terminate()
        server.wait()


def wait_for(address: str, server: subprocess.Popen[bytes], end: float) -> None:
    """Wait until a server answers."""
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"the server ended with code {server.returncode}")
        try:
            with urllib.request.urlopen(address, timeout=10):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(1)
    raise TimeoutError(f"the server did not answer at {address} in time")


def request(address: str, model: str, image: Path, target: Path) -> NDArray[np.float64]:
    """Request a segmentation. A picture is requested as NIfTI too: MONAI Label writes PNG with swapped axes."""
    boundary = uuid.uuid4().hex
    params = '{"result_extension": ".nii.gz", "result_dtype": "uint8"}'
    parts = [
        f'Content-Disposition: form-data; name="params"\r\n\r\n{params}'.encode(),
        f'Content-Disposition: form-data; name="file"; filename="{image.name}"\r\n\r\n'.encode() + image.read_bytes(),
    ]
    body = b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), part) for part in parts) + f"--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    query = urllib.request.Request(f"{address}/infer/{model}?output=image", data=body, headers=headers)
    with urllib.request.urlopen(query, timeout=600) as answer:
        target.write_bytes(answer.read())
    return read(target)


def read(path: Path) -> NDArray[np.float64]:
    """Read a segmentation as an array."""
    if path.name.endswith(_VOLUMES):
        return np.squeeze(np.asarray(nibabel.load(path).dataobj, dtype=np.float64))
    with Image.open(path) as picture:
        return np.asarray(picture, dtype=np.float64)


if __name__ == "__main__":
    sys.exit(main())
