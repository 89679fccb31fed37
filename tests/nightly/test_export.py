"""Exported networks (TorchScript, torch.export, torch.compile, ONNX) give the same numbers, at other sizes too."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from _helpers.hosts import CLASSES, HOSTS, WAYS, Host
from afma_med import AFMALoss, AFMANet, SliceWise

# A multiple of nothing, then multiples of what hosts need, other batches, smaller and larger images. torch.export takes
# for a constant what is 1 in its example, and for none what is not: no map or grid of patches here has one row only.
EXAMPLE = (2, 3, 93, 125)
SIZES = [(2, 3, 96, 128), (1, 3, 65, 150), (3, 3, 90, 70)]
TINY = (1, 3, 20, 40)
UNET = HOSTS[0]
TORCH = tuple(int(number) for number in torch.__version__.split(".")[:2])


def wrap(host: Host = UNET, feature: int | str | None = None, **options: object) -> AFMANet:
    torch.manual_seed(0)
    feature = feature or host.features[min(1, len(host.features) - 1)]
    # Patches that divide no feature map of the sizes above.
    return AFMANet(host.make(), CLASSES, feature=feature, patch_size=5, **options).eval()


def duration(way: str, *, fast: bool = False) -> pytest.MarkDecorator:
    """The compilers take long: in CI a few hosts go through them, all of them in the survey."""
    return pytest.mark.slow if fast or way in ("script", "trace") else pytest.mark.survey


def case(host: Host, way: str) -> object:
    return pytest.param(host, way, id=f"{host.name}-{way}", marks=duration(way, fast=host.fast))


def leave_python(net: nn.Module, way: str, folder: Path, size: tuple[int, ...] = EXAMPLE) -> Callable[[Tensor], Tensor]:
    """Turn a network into something that other programs run, by way of a file where there is one."""
    image = torch.rand(*size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of deprecation and of constants in traces
        if way == "script":
            return through_a_file(torch.jit.script(net))
        if way == "trace":
            return through_a_file(torch.jit.trace(net, image, check_trace=False))
        if way == "export":
            auto = torch.export.Dim.AUTO
            shapes = ({0: auto, 2: auto, 3: auto},)
            return torch.export.export(net, (image,), dynamic_shapes=shapes, strict=False).module()
        return through_onnx(net, image, folder / "net.onnx")


def through_a_file(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    file = io.BytesIO()
    torch.jit.save(module, file)
    file.seek(0)
    return torch.jit.load(file)


def through_onnx(net: nn.Module, image: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    auto, axes = torch.export.Dim.AUTO, [0, 2, 3]
    # The exporter that each version of torch has by default: the older one's other exporter fails on bare hosts too.
    by_version = (
        {"dynamo": True, "verbose": False, "dynamic_shapes": (dict.fromkeys(axes, auto),)}
        if TORCH >= (2, 9)
        else {"dynamo": False, "dynamic_axes": {"image": axes, "logits": axes}}
    )
    torch.onnx.export(
        net,
        (image,),
        path,
        input_names=["image"],
        output_names=["logits"],
        opset_version=18,
        **by_version,
    )
    model = onnx.load(path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert not {node.op_type for node in model.graph.node} & {"Col2Im", "Loop", "If"}
    named = [dim.dim_param for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert named[0] and named[2] and named[3], "batch, height and width are dynamic"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"image": x.numpy()})[0])


@pytest.mark.parametrize(("host", "way"), [case(host, way) for host in HOSTS for way in WAYS if way not in host.lacks])
def test_host_leaves_python_and_gives_the_same_at_other_sizes(host: Host, way: str, tmp_path: Path) -> None:
    net = wrap(host)
    check_outside(leave_python(net, way, tmp_path), net, SIZES if way == "export" else [*SIZES, TINY])


@pytest.mark.parametrize(
    ("host", "way"),
    # ONNX goes by way of torch.export, which does not come to an end with SwinUNETR.
    [case(host, way) for host in HOSTS for way in host.lacks if host.lacks != WAYS or way in ("script", "trace")],
)
def test_what_a_host_lacks_it_lacks_without_afma(host: Host, way: str, tmp_path: Path) -> None:
    """At sides that it takes without padding."""
    divisor, smallest, largest = wrap(host).input_sizes
    sides = [largest or smallest + steps * divisor for steps in (3, 4, 5, 6)]
    sizes = [(2, 3, *sides[:2]), (1, 3, *sides[1:3]), (3, 3, *sides[2:])]
    bare = host.make().eval()
    with pytest.raises(Exception):  # noqa: B017 -- anything, from a refusal of the compiler to another output
        check_outside(leave_python(bare, way, tmp_path, sizes[0]), bare, sizes)


def check_outside(outside: Callable[[Tensor], Tensor], net: nn.Module, sizes: list[tuple[int, ...]]) -> None:
    with torch.no_grad():
        for size in sizes:
            image = torch.rand(*size)
            expected = net(image)
            # Untrained networks in eval mode give numbers of any scale.
            torch.testing.assert_close(outside(image), expected, rtol=1e-4, atol=1e-4 * max(1, expected.abs().max()))


@pytest.mark.parametrize("way", [pytest.param(way, marks=duration(way)) for way in WAYS])
def test_paper_variant_leaves_python(way: str, tmp_path: Path) -> None:
    net = wrap(variant="paper")
    check_outside(leave_python(net, way, tmp_path), net, SIZES)


@pytest.mark.parametrize("way", [pytest.param(way, marks=duration(way)) for way in WAYS])
@pytest.mark.parametrize(
    "options",
    [
        {"feature": [2, 3]},
        {"feature": {"a": 2, "b": [2, 3]}, "class_groups": {"a": [0], "b": [1]}},
        {"feature": 2, "source": "image"},
    ],
    ids=str,
)
def test_several_depths_leave_python(options: dict[str, object], way: str, tmp_path: Path) -> None:
    net = wrap(**options)
    check_outside(leave_python(net, way, tmp_path), net, SIZES)


def test_scripted_network_trains_as_the_original() -> None:
    """Both modes, the same parameters, gradients; the attention stays behind."""
    net = wrap(next(host for host in HOSTS if host.name == "monai UNet"), attention_supervision=True).train()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(net)
    image, label = torch.rand(2, 3, 30, 41), torch.randint(CLASSES, (2, 1, 30, 41))
    torch.manual_seed(1)
    expected, _ = net(image)
    torch.manual_seed(1)
    logits = scripted(image)
    torch.testing.assert_close(logits, expected)
    AFMALoss()(logits, label).backward()
    assert all(parameter.grad is not None for parameter in net.parameters()), "parameters are shared"
    torch.testing.assert_close(scripted.eval()(image), net.eval()(image))


def test_scripting_leaves_the_network_as_it_was() -> None:
    net = wrap(next(host for host in HOSTS if host.name == "monai UNet"))
    image = torch.rand(1, 3, 30, 41)
    names, expected = list(net.state_dict()), net(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(net)
    assert list(net.state_dict()) == names
    assert torch.equal(net(image), expected)


def test_scripted_network_of_one_size_refuses_larger_images() -> None:
    class OneSize(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.up = nn.Conv2d(3, 4, 3, 2, 1), nn.ConvTranspose2d(4, CLASSES, 2, 2)

        def forward(self, x: Tensor) -> Tensor:
            if x.shape[2] != 96:
                raise ValueError("96 only")
            return self.up(self.down(x))

    net = AFMANet(OneSize(), CLASSES, feature="down", patch_size=4).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(net)
    assert scripted(torch.rand(1, 3, 50, 96)).shape == (1, CLASSES, 50, 96)
    with pytest.raises(torch.jit.Error, match="larger than the one size"):
        scripted(torch.rand(1, 3, 97, 20))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"variant": "released"}, marks=pytest.mark.slow),
        pytest.param({"variant": "paper"}, marks=pytest.mark.survey),
        pytest.param(
            {"feature": {"a": 2, "b": [2, 3]}, "class_groups": {"a": [0], "b": [1]}}, marks=pytest.mark.survey
        ),
    ],
    ids=str,
)
def test_training_step_compiles_into_one_graph(options: dict[str, object]) -> None:
    """fullgraph=True refuses any break, in the loss too; the second size makes the shapes dynamic."""
    net = wrap(**options, attention_supervision=True).train()
    reference, loss = copy.deepcopy(net), AFMALoss(ignore_index=255)
    torch._dynamo.reset()
    compiled = torch.compile(lambda image, label: loss(net(image), label), backend="aot_eager", fullgraph=True)
    for size in [(64, 96), (61, 93), (70, 90)]:
        image, label = torch.rand(2, 3, *size), torch.randint(CLASSES, (2, 1, *size))
        expected = loss(reference(image), label)
        got = compiled(image, label)
        torch.testing.assert_close(got, expected)
        got.backward()
        expected.backward()
    for (name, parameter), other in zip(net.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-3, atol=1e-4, msg=name)
    label[0, 0, 0, 0] = 9
    with pytest.raises(RuntimeError, match="`label` must hold classes or"):
        compiled(image, label)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("variant", ["released", "paper"])
def test_memory_format_does_not_matter(variant: str, memory_format: torch.memory_format) -> None:
    net = wrap(variant=variant)
    image = torch.rand(*EXAMPLE)
    expected = net(image)
    got = copy.deepcopy(net).to(memory_format=memory_format)(image.to(memory_format=memory_format))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("way", ["trace", "export"])
def test_slice_wise_network_leaves_python(way: str) -> None:
    """Volumes of other sizes and depths than the example."""
    net = SliceWise(wrap()).eval()
    volume = torch.rand(1, 3, 61, 93, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if way == "trace":
            outside = torch.jit.trace(net, volume, check_trace=False)
        else:
            auto = torch.export.Dim.AUTO
            shapes = ({0: auto, 2: auto, 3: auto, 4: auto},)
            outside = torch.export.export(
                net, (volume.repeat(2, 1, 1, 1, 1),), dynamic_shapes=shapes, strict=False
            ).module()
    check_outside(outside, net, [(2, 3, 64, 96, 3), (3, 3, 90, 70, 5)])
