"""AFMA in other people's pipelines: threads, replicas, recomputation, tools that change layers, torch.func."""

from __future__ import annotations

import concurrent.futures
import copy
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest
import segmentation_models_pytorch as smp
import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from afma_med import AFMABlock, AFMALoss, AFMANet, PatchAttention
from afma_med.networks.embedding import is_plain_conv, is_plain_linear

LAYERS = ("image_conv1", "image_conv2", "feature_conv", "patch_linear1", "patch_linear2")


class Host(nn.Module):
    """A small host whose tapped block may be recomputed, run twice, or run without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.run: Callable[[nn.Module, Tensor], Tensor] = lambda module, x: module(x)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.up(self.run(self.down, x).relu())
        return logits


def make(**options: object) -> AFMANet:
    torch.manual_seed(0)
    return AFMANet(Host(), 3, feature="down", **{"attention_supervision": True, "patch_size": 4} | options)


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 17, 19, generator=generator, requires_grad=True)
    return image, torch.randint(3, (2, 1, 17, 19), generator=generator)


def gradients(net: nn.Module, call: Callable[[Tensor], object]) -> dict[str, Tensor]:
    net.zero_grad()
    image, label = batch()
    AFMALoss()(call(image), label).backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], msg=lambda text, name=name: f"{name}: {text}")


# Threads.


@pytest.fixture(params=["eager", "scripted"])
def shared(request: pytest.FixtureRequest) -> tuple[nn.Module, AFMANet]:
    torch.manual_seed(0)
    net = AFMANet(smp.Unet("resnet18", encoder_weights=None, classes=3), 3).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (torch.jit.script(net) if request.param == "scripted" else net), net


def test_threads_share_a_network(shared: tuple[nn.Module, AFMANet]) -> None:
    served, net = shared
    images = [torch.rand(1, 3, 32, 64) for _ in range(40)]
    with torch.inference_mode():
        expected = [net(image) for image in images]

    def answer(image: Tensor) -> Tensor:
        with torch.inference_mode():
            return served(image)

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(answer, images))
    for found, right in zip(answers, expected, strict=True):
        torch.testing.assert_close(found, right)


def test_two_passes_may_overlap() -> None:
    """The first thread waits inside its pass until the second has run its own."""
    net = make(attention_supervision=False).eval()
    images = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    expected = [net(image) for image in images]
    arrived, go_on = threading.Event(), threading.Event()

    def wait(module: nn.Module, x: Tensor) -> Tensor:
        feature: Tensor = module(x)
        if x is not None and threading.current_thread() is not threading.main_thread():
            arrived.set()
            assert go_on.wait(30)
        return feature

    net.backbone.run = wait
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        first = thread.submit(net, images[0])
        assert arrived.wait(30)
        second = net(images[1])
        go_on.set()
    assert torch.equal(first.result(), expected[0])
    assert torch.equal(second, expected[1])


def test_scripted_network_has_no_state(shared: tuple[nn.Module, AFMANet]) -> None:
    served, _ = shared
    if isinstance(served, torch.jit.ScriptModule):
        assert not any(graph.findAllNodes("prim::SetAttr") for graph in [served.scripted.inlined_graph])


def test_map_under_a_condition_is_refused_by_script() -> None:
    class Conditional(Host):
        def forward(self, x: Tensor) -> Tensor:
            y = self.down(x) if x.shape[2] > 1 else self.down(x) * 2
            logits: Tensor = self.up(y)
            return logits

    net = AFMANet(Conditional(), 3, feature="down", patch_size=4).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TypeError, match="must run once, and under no condition"):
            torch.jit.script(net)


# nn.DataParallel, as torch.nn.parallel.replicate makes its replicas.


def replicate(net: nn.Module) -> nn.Module:
    copies = {module: module._replicate_for_data_parallel() for module in net.modules()}
    for module, replica in copies.items():
        for name, child in module._modules.items():
            replica._modules[name] = copies[child]
            setattr(replica, name, copies[child])
        for name, parameter in module._parameters.items():
            if parameter is None:
                replica._parameters[name] = None
            else:
                setattr(replica, name, parameter.view_as(parameter))
    return copies[net]


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_replicas_run_in_threads(mode: str) -> None:
    net = make(attention_supervision=False).train(mode == "train")
    replicas = [replicate(net) for _ in range(3)]
    images = [torch.rand(2, 3, 16, 16) for _ in replicas]
    expected = [net(image) for image in images]
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        answers = list(threads.map(lambda pair: pair[0](pair[1]), zip(replicas, images, strict=True)))
    assert all(torch.equal(found, right) for found, right in zip(answers, expected, strict=True))
    assert len(net.backbone.down._forward_hooks) == 1


def test_data_parallel_refuses_to_gather_the_attention() -> None:
    net = make()
    with pytest.raises(RuntimeError, match="DistributedDataParallel"):
        replicate(net.train())
    assert replicate(net.eval())(torch.rand(1, 3, 16, 16)).shape == (1, 3, 16, 16)


# Recomputation.


def test_recomputing_without_reentry_is_exact() -> None:
    net = make()
    expected = gradients(net, net)
    assert_same(gradients(net, lambda x: checkpoint(net, x, use_reentrant=False)), expected)
    net.backbone.run = lambda module, x: checkpoint(module, x, use_reentrant=False)
    assert_same(gradients(net, net), expected)


def test_reentrant_recomputation_is_exact_without_supervision_and_refused_with_it() -> None:
    net = make(attention_supervision=False)
    with pytest.warns(UserWarning, match="plain logits"):
        expected = gradients(net, net)
    with pytest.warns(UserWarning, match="plain logits"):
        assert_same(gradients(net, lambda x: checkpoint(net, x, use_reentrant=True)), expected)
    net.attention_supervision = True
    with pytest.raises(ValueError, match=r"use_reentrant=True drops them\. Use use_reentrant=False"):
        gradients(net, lambda x: checkpoint(net, x, use_reentrant=True))


@pytest.mark.parametrize("supervision", [False, True])
def test_reentrant_recomputation_of_the_tapped_block_is_refused(supervision: bool) -> None:
    net = make(attention_supervision=supervision)
    net.backbone.run = lambda module, x: checkpoint(module, x, use_reentrant=True)
    with pytest.raises(ValueError, match=r"`feature` must carry gradients .* Use use_reentrant=False, or freeze"):
        net(batch()[0])
    net.backbone.down.requires_grad_(False)
    net(batch()[0])
    assert net.eval()(batch()[0]).shape == (2, 3, 17, 19)


# Tools that act on layers.


def hook(layer: nn.Module) -> nn.Module:
    layer.register_forward_hook(lambda *_: None)
    return layer


class Lora(nn.Module):
    """A low-rank adapter as libraries for fine-tuning build it: the frozen layer and a trained update."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.update = copy.deepcopy(layer).requires_grad_(True)
        nn.init.zeros_(self.update.weight)
        if self.update.bias is not None:
            nn.init.zeros_(self.update.bias)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x) + self.update(x)
        return result


def block_inputs() -> tuple[AFMABlock, Tensor, Tensor]:
    torch.manual_seed(0)
    return AFMABlock(8, 3, patch_size=4), torch.rand(2, 3, 32, 40), torch.rand(2, 8, 16, 20)


def test_layers_are_plain_as_built_and_not_after_a_tool_acted_on_them() -> None:
    block, _, _ = block_inputs()
    kernels = {"image_conv1": 7, "image_conv2": 3, "feature_conv": 1}

    def plain(name: str, layer: nn.Module) -> bool:
        return is_plain_conv(layer, kernels[name]) if name in kernels else is_plain_linear(layer)

    for name in LAYERS:
        layer = getattr(block, name)
        assert plain(name, layer)
        for tool in (hook, Lora, prune_half, parametrizations.spectral_norm, parametrizations.weight_norm):
            assert not plain(name, tool(copy.deepcopy(layer)))
    assert not is_plain_conv(nn.Conv2d(3, 64, 7, padding=3, padding_mode="reflect"), 7)
    assert not is_plain_conv(nn.Conv2d(3, 64, 5, padding=2), 7)
    assert not is_plain_linear(nn.Linear(4, 4))


def prune_half(layer: nn.Module) -> nn.Module:
    pruned: nn.Module = prune.l1_unstructured(layer, "weight", 0.5)
    return pruned


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("tool", [hook, Lora])
def test_called_layers_give_the_numbers_of_the_fast_path(tool: Callable, name: str) -> None:
    block, image, feature = block_inputs()
    expected = block(image, feature)
    setattr(block, name, tool(getattr(block, name)))
    found = block(image, feature)
    torch.testing.assert_close(found.query, expected.query, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.key, expected.key, atol=1e-5, rtol=1e-5)
    (found.query.sum() + found.key.sum()).backward()
    trained = [n for n, p in block.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not trained, "parameters without a gradient"


@pytest.mark.parametrize("name", LAYERS)
def test_pruned_layers_train_more_than_once(name: str) -> None:
    block, image, feature = block_inputs()
    dense = copy.deepcopy(block)
    layer = prune_half(getattr(block, name))
    with torch.no_grad():
        getattr(dense, name).weight.copy_(layer.weight_orig * layer.weight_mask)
    for _ in range(2):
        found = block(image, feature)
        (found.query.sum() + found.key.sum()).backward()
    assert layer.weight_orig.grad.any()
    torch.testing.assert_close(found.key, dense(image, feature).key, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("normalize", [parametrizations.spectral_norm, nn.utils.spectral_norm, nn.utils.weight_norm])
def test_normalized_layers_follow_their_parameters(normalize: Callable) -> None:
    block, image, feature = block_inputs()
    for name in LAYERS:
        setattr(block, name, normalize(getattr(block, name)))
    before = block.train()(image, feature).query
    optimizer = torch.optim.SGD(block.parameters(), 1.0)
    for _ in range(2):
        optimizer.zero_grad()
        sum(factor.square().sum() for factor in block(image, feature)[:2]).backward()
        optimizer.step()
    assert not torch.allclose(block(image, feature).query, before)
    assert all(parameter.grad is not None for parameter in block.parameters())


@pytest.mark.filterwarnings("ignore")
def test_quantized_network_runs() -> None:
    net = make().eval()
    image = torch.rand(1, 3, 16, 16)
    quantized = torch.ao.quantization.quantize_dynamic(net, {nn.Linear})
    assert not isinstance(quantized.afma_block.patch_linear1, nn.Linear)
    torch.testing.assert_close(quantized(image), net(image), atol=0.05, rtol=0.05)


# torch.func, and gradients of gradients.


def functional_loss(net: AFMANet) -> Callable[..., Tensor]:
    return lambda parameters, image, label: AFMALoss()(torch.func.functional_call(net, parameters, (image,)), label)


def detached(net: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in net.named_parameters()}


def test_torch_func_gives_the_gradients_of_autograd() -> None:
    net = make().double()
    image, label = (x.double() if x.is_floating_point() else x for x in batch())
    AFMALoss()(net(image), label).backward()
    found = torch.func.grad(functional_loss(net))(detached(net), image.detach(), label)
    assert_same(found, {name: parameter.grad for name, parameter in net.named_parameters()})


def test_vmap_gives_gradients_per_image() -> None:
    net = make().double()
    image, label = batch()[0].detach().double(), batch()[1]
    gradient = torch.func.grad(functional_loss(net))
    per_image = torch.func.vmap(gradient, in_dims=(None, 0, 0))(detached(net), image[:, None], label[:, None])
    for i in range(2):
        alone = gradient(detached(net), image[i : i + 1], label[i : i + 1])
        assert_same({name: value[i] for name, value in per_image.items()}, alone)


@pytest.mark.parametrize("patch_size", [4, 8], ids=["gram matrices", "difference"])
def test_gradients_of_gradients(patch_size: int) -> None:
    """Against torch.func, which differentiates the formulas twice."""
    net = make(patch_size=patch_size).double()
    image, label = batch()[0].detach().double(), batch()[1]
    loss = functional_loss(net)

    def squared_gradient(parameters: dict[str, Tensor]) -> Tensor:
        return sum(g.square().sum() for g in torch.func.grad(loss)(parameters, image, label).values())

    first = torch.autograd.grad(AFMALoss()(net(image), label), net.parameters(), create_graph=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in first), net.parameters())
    expected = torch.func.grad(squared_gradient)(detached(net))
    assert_same(dict(zip(expected, second, strict=True)), expected)
    assert max(g.abs().max() for g in second) > 1e-3


# What a network is given, and what takes its output.


@pytest.mark.parametrize("compiled", [lambda host: torch.compile(host, backend="eager"), "in place"])
def test_compiled_backbone_is_refused(compiled: object) -> None:
    host = Host()
    if callable(compiled):
        host = compiled(host)
    else:
        host.compile(backend="eager")
    with pytest.raises(ValueError, match=r"not compiled yet.*torch\.compile\(AFMANet\(network\)\)"):
        AFMANet(host, 3, feature="down")


@pytest.mark.filterwarnings("ignore")
def test_parts_of_a_backbone_may_be_scripted_or_compiled_already() -> None:
    torch.manual_seed(0)
    plain = make(attention_supervision=False).eval()
    image = torch.rand(1, 3, 16, 16)
    host = copy.deepcopy(plain.backbone)
    host.up = torch.jit.script(host.up)
    host.down = torch.compile(host.down, backend="eager")
    net = AFMANet(host, 3, feature="down", patch_size=4).eval()
    net.afma_block.load_state_dict(plain.afma_block.state_dict())
    torch.testing.assert_close(net(image), plain(image))
    with pytest.raises(ValueError, match="a module that is not scripted; got 'up'"):
        AFMANet(host, 3, feature="up")


def test_encoder_that_runs_twice_is_refused() -> None:
    host = Host()
    host.run = lambda module, x: module(x) - module(x.flip(0))
    with pytest.raises(ValueError, match="'down' ran 2 times"):
        AFMANet(host, 3, feature="down")


def test_encoder_of_image_pairs_in_one_batch_is_refused() -> None:
    class Pairs(Host):
        def forward(self, x: Tensor) -> Tensor:
            both = self.down(torch.cat([x, x.flip(2)]))
            logits: Tensor = self.up(both[: len(x)] - both[len(x) :])
            return logits

    with pytest.raises(ValueError, match=r"one map per image; 'down' gave 2 for 1"):
        AFMANet(Pairs(), 3, feature="down")


def test_sliding_windows_in_train_mode_say_what_to_do() -> None:
    net, window = make(), SlidingWindowInferer((16, 16))
    with pytest.raises(AttributeError, match=r"not a tensor: AFMANet returned .*call \.eval\(\)"):
        window(torch.rand(1, 3, 24, 24), net.train())
    assert window(torch.rand(1, 3, 24, 24), net.eval()).shape == (1, 3, 24, 24)


def test_attention_has_no_attributes_of_tensors() -> None:
    attention = PatchAttention(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), None)  # type: ignore[arg-type]
    assert not hasattr(attention, "shape")
    with pytest.raises(AttributeError, match="no `anything`"):
        attention.anything  # noqa: B018


def train(net: AFMANet, parameters: Iterator[nn.Parameter], steps: int = 3) -> list[str]:
    optimizer = torch.optim.SGD(parameters, 0.1)
    image, label = batch()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(steps):
            optimizer.zero_grad()
            AFMALoss()(net(image), label).backward()
            optimizer.step()
    assert all(warning.filename == __file__ for warning in caught)
    return [str(warning.message) for warning in caught]


def test_optimizer_of_the_backbone_alone_is_warned_of_once() -> None:
    net = make()
    (message,) = train(net, net.backbone.parameters())
    assert "net.parameters()" in message


def test_other_optimizers_are_not_warned_of() -> None:
    net = make()
    assert not train(net, net.parameters())
    frozen = make()
    frozen.afma_block.requires_grad_(False)
    assert not train(frozen, frozen.backbone.parameters())
    assert not train(make(), net.parameters())
