"""How large the objects of a label are: connected components by their area, as the paper's Fig. 9 counts them."""

from __future__ import annotations

import numpy as np
import SimpleITK
from numpy.typing import NDArray

__all__ = ["SIZE_GROUPS", "count_objects"]

#: Upper bounds, in pixels, of small and medium objects, after COCO; what is larger is large.
SIZE_GROUPS = (32 * 32, 96 * 96)


def count_objects(label: NDArray[np.integer], classes: int) -> NDArray[np.int64]:
    """Count the objects of each class in a label by size.

    An object is a connected component of one class; pixels that touch at a corner are connected.

    Args:
        label: (H,W) train ids.
        classes: K.

    Returns:
        (K,3) objects of fewer than 32², of 32² to 96², and of more than 96² pixels.

    Example:
        >>> label = np.zeros((40, 40), dtype=np.uint8)
        >>> label[:2, :2] = label[5, 5] = 1
        >>> count_objects(label, 2).tolist()
        [[0, 1, 0], [2, 0, 0]]
    """
    objects = np.zeros((classes, 3), dtype=np.int64)
    for k in np.unique(label[label < classes]).tolist():
        components = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray((label == k).astype(np.uint8)), True)
        areas = np.bincount(SimpleITK.GetArrayViewFromImage(components).ravel())[1:]
        small, large = (areas < SIZE_GROUPS[0]).sum(), (areas > SIZE_GROUPS[1]).sum()
        objects[k] = small, len(areas) - small - large, large
    return objects
