"""Random shapes, classes, patches, strides, dtypes and memory formats against the naive reference; random files."""

from __future__ import annotations

import string
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from _helpers import reference
from afma_med import AFMALoss, AFMANet
from afma_med.data import CAMVID, READERS, DatasetError
from afma_med.data.label_pixels import MaskReader
from afma_med.functional import PatchAttention, PatchGrid, gold_attention_from_index, modulate_logits
from experiments.lab import dense

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
# Relative to the largest value: half precision is widened, but what comes in is rounded already.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.05, torch.float16: 0.01}


class Setting(NamedTuple):
    """An image of any size, padded to a multiple of the stride, and all that goes with it."""

    batch: int
    classes: int
    size: tuple[int, int]
    stride: int
    patch: tuple[int, int]
    dtype: torch.dtype
    memory: str
    seed: int

    @property
    def grid(self) -> PatchGrid:
        height, width = (-(-side // self.stride) * self.stride for side in self.size)
        return PatchGrid((height, width), self.stride, self.patch)

    def logits(self) -> Tensor:
        torch.manual_seed(self.seed)
        # Rounded here, so that ours and the reference see the same numbers and the same largest class.
        return (torch.randn(self.batch, self.classes, *self.size) * 3).to(self.dtype)

    def index(self) -> Tensor:
        torch.manual_seed(self.seed + 1)
        return torch.randint(-1, self.classes, (self.batch, *self.size))

    def attention(self) -> PatchAttention:
        """Factors as the released block makes them, ≥ 0 with zeros among them."""
        torch.manual_seed(self.seed + 2)
        (rows, columns), (height, width) = self.grid.image_size, self.patch
        counts = [
            -(-side // p) * -(-other // q)
            for side, p, other, q in (
                (rows, height, columns, width),
                (rows // self.stride, height, columns // self.stride, width),
            )
        ]
        factors = [torch.randn(self.batch, self.classes, count, height * width).relu() for count in counts]
        return PatchAttention(*(factor.to(self.dtype) for factor in factors), self.grid)


SETTINGS = st.builds(
    Setting,
    batch=st.integers(1, 2),
    classes=st.integers(1, 4),
    size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    stride=st.integers(1, 4),
    patch=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dtype=st.sampled_from(list(TOLERANCE)),
    memory=st.sampled_from(sorted(FORMATS)),
    seed=st.integers(0, 999),
)


def assert_near(ours: Tensor, naive: Tensor, dtype: torch.dtype) -> None:
    assert ours.shape == naive.shape
    assert torch.isfinite(ours).all()
    scale = max(1.0, float(naive.detach().abs().max())) if naive.numel() else 1.0
    torch.testing.assert_close(ours.double(), naive, rtol=0, atol=TOLERANCE[dtype] * scale)


@given(setting=SETTINGS, soft=st.booleans())
def test_modulation_is_that_of_the_reference(setting: Setting, soft: bool) -> None:
    logits, attention = setting.logits(), setting.attention()
    given_logits = logits.contiguous(memory_format=FORMATS[setting.memory])
    ours = modulate_logits(given_logits, attention, soft=soft)
    assert ours.dtype == (torch.float64 if setting.dtype == torch.float64 else torch.float32)
    matrix = reference.attention(attention.query.double(), attention.key.double())
    grid = setting.grid
    naive = reference.modulate(logits.double(), matrix, grid.image_size, grid.stride, grid.patch_size, soft=soft)
    assert_near(ours, naive, setting.dtype)


@given(setting=SETTINGS)
def test_gold_attention_and_its_distance_are_those_of_the_reference(setting: Setting) -> None:
    grid, index = setting.grid, setting.index()
    gold = gold_attention_from_index(index, grid, setting.classes)
    one_hot = torch.stack([index == k for k in range(setting.classes)], dim=1).double()
    naive = reference.gold_attention(one_hot, grid.image_size, grid.stride, grid.patch_size)
    assert_near(gold.dense(), naive, torch.float32)
    attention = setting.attention()
    matrix = reference.attention(attention.query.double(), attention.key.double())
    distance = reference.mean_squared_error(matrix, naive)
    torch.testing.assert_close(
        attention.squared_distance(gold).double(), distance, rtol=TOLERANCE[setting.dtype], atol=1e-7
    )


class Host(nn.Module):
    """A map of any stride, and logits of any number of classes."""

    def __init__(self, channels: int, classes: int, stride: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, 5, stride, stride=stride)
        self.up = nn.ConvTranspose2d(5, classes, stride, stride=stride)

    def forward(self, image: Tensor) -> Tensor:
        return self.up(self.down(image).relu())


@given(
    setting=SETTINGS.filter(lambda one: one.dtype in (torch.float32, torch.float64) and one.stride in (2, 4)),
    channels=st.integers(1, 4),
)
def test_network_and_loss_are_those_of_the_dense_form(setting: Setting, channels: int) -> None:
    torch.manual_seed(setting.seed)
    host = Host(channels, setting.classes, setting.stride)
    net = AFMANet(
        host,
        setting.classes,
        feature="down",
        in_channels=channels,
        patch_size=setting.patch,
        attention_supervision=True,
    ).to(setting.dtype)
    image = torch.rand(setting.batch, channels, *setting.size, dtype=setting.dtype)
    given_image = image.contiguous(memory_format=FORMATS[setting.memory])
    logits, attention = net.train()(given_image)
    grid = attention.grid
    padded = nn.functional.pad(image, (0, grid.image_size[1] - image.shape[3], 0, grid.image_size[0] - image.shape[2]))
    own = host(padded)[..., : setting.size[0], : setting.size[1]]
    expected, matrices = dense.run(net.afma_block, padded, host.down(padded), host(padded), setting.patch)
    expected = expected[..., : setting.size[0], : setting.size[1]]
    assert_near(attention.dense(), torch.stack(matrices, dim=1).double(), setting.dtype)
    whole = own.shape[2:] == padded.shape[2:]
    if whole and margin(own) > 1e-4:  # where two classes are equally likely, rounding decides
        assert_near(logits, expected.double(), setting.dtype)
    label = setting.index().clamp_min(0)[:, None].clamp_max(max(1, setting.classes - 1))
    AFMALoss()((logits, attention), label).backward()
    assert all(torch.isfinite(one.grad).all() for one in net.parameters() if one.grad is not None)


def margin(logits: Tensor) -> float:
    """Between the likeliest class and the next one, where it is least."""
    if logits.shape[1] == 1:
        return float(logits.abs().min())
    best = logits.topk(2, dim=1).values
    return float((best[:, 0] - best[:, 1]).min())


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_attention_and_loss_stay_finite_at_any_scale_of_the_image(scale: float) -> None:
    torch.manual_seed(0)
    net = AFMANet(Host(3, 4, 2), 4, feature="down", patch_size=4, attention_supervision=True)
    output = net.train()(torch.rand(2, 3, 24, 20) * scale)
    loss = AFMALoss()(output, torch.randint(4, (2, 1, 24, 20)))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(output[0]).all() and torch.isfinite(output[1].dense()).all()
    assert all(torch.isfinite(one.grad).all() for one in net.parameters())


NAMES = st.text(string.ascii_letters + string.digits + " _-.()äß漢é", min_size=1, max_size=12).filter(
    lambda name: name.strip(" .") == name and not name.startswith(".")
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, min_size=1, max_size=4, unique_by=str.lower), folder=NAMES)
def test_any_file_names_are_paired(tmp_path: Path, names: list[str], folder: str) -> None:
    root = tmp_path / f"{abs(hash((tuple(names), folder)))}" / folder
    for name in names:
        for part in ("train", "trainannot"):
            (root / part).mkdir(parents=True, exist_ok=True)
            Image.new("L", (4, 3)).save(root / part / f"{name}.png")
    items = CAMVID.datalist(root, "train")
    assert sorted(Path(item["image"]).stem for item in items) == sorted(names)
    assert all(Path(item["image"]).name == Path(item["label"]).name for item in items)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.integers(0, 255), min_size=1, max_size=12), width=st.integers(1, 4))
def test_any_label_values_are_read_or_refused(tmp_path: Path, values: list[int], width: int) -> None:
    pixels = np.resize(np.array(values, dtype=np.uint8), (3, width))
    path = tmp_path / "label.png"
    Image.fromarray(pixels).save(path)
    item = {"image": str(path), "label": str(path)}
    if pixels.max() <= 11:
        assert np.array_equal(np.asarray(CAMVID.read_label(item)), pixels)
    else:
        with pytest.raises(ValueError, match=r"label\.png"):
            found = np.asarray(CAMVID.read_label(item))
            assert set(np.unique(found)) <= {*range(12), 255}
            raise ValueError("label.png: values that are no class became void")
    with np.errstate(all="raise"):
        try:
            mask = np.asarray(MaskReader()({"label": str(path)}))
        except ValueError as error:
            assert "label.png" in str(error)
        else:
            assert set(np.unique(mask)) <= {0, 1, 255}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_in_place_of_a_picture_are_reported(tmp_path: Path, content: bytes) -> None:
    for part in ("images", "masks"):
        (tmp_path / part).mkdir(exist_ok=True)
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    for reader in (MaskReader().read, lambda name: CAMVID.read_label({"image": name, "label": name})):
        with pytest.raises((ValueError, DatasetError), match=r"picture\.png"):
            reader(str(path))


def test_readers_are_all_here() -> None:
    assert set(READERS) == {"camvid", "cityscapes", "lits", "isic", "cub", "nuclei", "lesion_slices"}
