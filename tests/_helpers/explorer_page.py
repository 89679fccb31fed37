"""What a page of the attention explorer holds, read from its source."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_description(page: str) -> dict[str, Any]:
    """Return the description that the page's script reads."""
    [text] = re.findall(r'<script type="application/json" id="description">(.*?)</script>', page, re.DOTALL)
    described: dict[str, Any] = json.loads(text)
    return described


def read_arrays(page: str, index: int = 0, part: int = 0) -> dict[str, NDArray[Any]]:
    """Return the numbers of a slice and one of its attentions by name, as flat arrays."""
    described = read_description(page)["slices"][index]
    predictions = _read(page, f"slice{index}", described["arrays"])
    return predictions | _read(page, f"slice{index}part{part}", described["parts"][part]["arrays"])


def _read(page: str, name: str, arrays: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    [text] = re.findall(rf'<script type="text/plain" id="{name}">(.*?)</script>', page)
    content, found, offset = gzip.decompress(base64.b64decode(text)), {}, 0
    for one in arrays:
        dtype = np.dtype(one["type"]).newbyteorder("<")
        size = one["length"] * dtype.itemsize
        planes = np.frombuffer(content[offset : offset + size], np.uint8).reshape(dtype.itemsize, -1)
        found[one["name"]] = np.ascontiguousarray(planes.T).view(dtype)[:, 0]
        offset += size
    assert offset == len(content)
    return found


def read_maps(page: str, index: int = 0, part: int = 0) -> NDArray[np.float64]:
    """Return A of one attention, (K,N,M), from the rounded components."""
    described, arrays = read_description(page), read_arrays(page, index, part)
    scales = described["slices"][index]["parts"][part]["scales"]
    ends = np.cumsum([len(scale) for scale in scales])[:-1]
    sizes = [int(np.prod(described["parts"][part][name])) for name in ("grid", "regions")]
    query, key = (
        np.split(arrays[name].reshape(-1, size), ends) for name, size in zip(("query", "key"), sizes, strict=True)
    )
    return np.stack([(q.T * np.array(s)) @ k.astype(float) for q, k, s in zip(query, key, scales, strict=True)])
