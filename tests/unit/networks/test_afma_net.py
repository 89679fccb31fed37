"""The wrapper: any backbone, any size, both variants, training, copying, saving, refusals."""

import copy
import pickle

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.engines import SupervisedTrainer
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from torch import Tensor, nn
from torch.utils.data import DataLoader

from _helpers import reference
from afma_med import AFMALoss, AFMANet, FeatureTap, PatchAttention
from afma_med.networks import PaddedNetwork
from afma_med.networks.probing import PROBE_SIZES

VARIANTS = ["released", "paper"]


class TinyEncoder(nn.Module):
    """An encoder in SMP's manner: a list of maps, the image first, of strides 1, 2, 4; the last may be dilated."""

    output_stride = 4

    def __init__(self, in_channels: int = 3, last_stride: int = 2) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(in_channels, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU())
        self.second = nn.Conv2d(4, 5, 3, last_stride, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        first = self.first(x)
        return [x, first, self.second(first)]


class TinyBackbone(nn.Module):
    """A segmentation network that works only on sides that are multiples of 4, as its encoder says."""

    def __init__(self, classes: int = 3, in_channels: int = 3, last_stride: int = 2) -> None:
        super().__init__()
        self.encoder = TinyEncoder(in_channels, last_stride)
        self.head = nn.Conv2d(5, classes, 1)
        self.never_run = nn.Conv2d(5, 1, 1)
        self.fails = False

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] % 4 or x.shape[3] % 4:
            raise RuntimeError("sides must be multiples of 4")
        *_, last = self.encoder(x)
        if self.fails:
            raise RuntimeError("out of memory")
        return F.interpolate(self.head(last), size=x.shape[2:], mode="bilinear")


class PlainBackbone(nn.Module):
    """A network without anything named encoder: its maps are known by module names only."""

    def __init__(self, classes: int = 3, stride: int = 4, side_path: nn.Module | None = None) -> None:
        super().__init__()
        self.down = nn.ModuleDict({"conv": nn.Conv2d(3, 4, 3, stride, 1)})
        self.up = nn.Conv2d(4, classes, 1)
        self.side_path = side_path or nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        self.side_path(x)
        return F.interpolate(self.up(self.down["conv"](x)), size=x.shape[2:])


def make_net(variant: str = "released", *, classes: int = 3, **arguments) -> AFMANet:
    backbone = TinyBackbone(classes, arguments.get("in_channels", 3))
    return AFMANet(backbone, classes, **{"patch_size": 2, "variant": variant} | arguments)


@pytest.fixture(scope="module")
def unet() -> AFMANet:
    """SMP's Unet, made once; tests that change it take a copy."""
    return AFMANet(smp.Unet("resnet18", encoder_weights=None, classes=3), 3, attention_supervision=True)


# Output.


@pytest.mark.parametrize("size", [(33, 47), (7, 9), (1, 1), (8, 12), (5, 64)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_any_size_goes_in_and_comes_out(variant, size):
    net = make_net(variant, patch_size=(3, 2)).eval()
    logits = net(torch.rand(2, 3, *size))
    assert logits.shape == (2, 3, *size)
    assert logits.isfinite().all()


def test_any_size_goes_through_smp(unet):
    assert unet.input_sizes == (32, 32, None)
    assert unet.eval()(torch.rand(1, 3, 90, 70)).shape == (1, 3, 90, 70)


def test_any_size_goes_through_a_backbone_that_does_not_say_what_it_needs():
    """MONAI's UNet joins maps of several strides: its sides must be multiples of 4 here, whatever the tapped map's."""
    backbone = UNet(2, 3, 3, channels=(4, 4, 4), strides=(2, 2))
    net = AFMANet(backbone, 3, feature="model.0", patch_size=3).eval()
    assert net(torch.rand(1, 3, 33, 47)).shape == (1, 3, 33, 47)


@pytest.mark.parametrize("size", [(7, 9), (8, 12)])
@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_network_is_the_backbone_corrected_by_the_reference(variant, classes, size):
    """The image is zero-padded at the bottom and right; the correction sees the cropped logits."""
    net = make_net(variant, classes=classes, attention_supervision=True).double()
    with torch.no_grad():
        # Logits of either sign, and an attention that the ReLU does not silence.
        net.backbone.head.bias.zero_()
        net.afma_block.feature_conv.bias.fill_(2.0)
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    logits, attention = net(image)

    backbone = copy.deepcopy(net.backbone)
    padded = torch.zeros(1, 3, -(-size[0] // 4) * 4, -(-size[1] // 4) * 4, dtype=torch.float64)
    padded[:, :, : size[0], : size[1]] = image
    feature = backbone.encoder(padded)[2]
    parameters, paper = dict(net.afma_block.named_parameters()), variant == "paper"
    dense = reference.block_attention(padded, feature, parameters, (2, 2), paper=paper)
    plain = backbone(padded)[:, :, : size[0], : size[1]]
    naive = reference.modulate(plain, dense, tuple(padded.shape[2:]), 4, (2, 2), soft=paper)
    torch.testing.assert_close(attention.dense(), dense, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(logits, naive, rtol=1e-10, atol=1e-10)
    assert (logits - plain).abs().max() > 1e-6
    expected = reference.gradients(naive, [*backbone.parameters(), *parameters.values()])
    ours = reference.gradients(logits, [*net.backbone.parameters(), *parameters.values()])
    for gradient, wanted in zip(ours, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_attention_comes_out_only_in_training_and_when_asked_for(variant):
    image = torch.rand(1, 3, 8, 8)
    for supervision in (False, True):
        net = make_net(variant, attention_supervision=supervision)
        trained, evaluated = net.train()(image), net.eval()(image)
        assert isinstance(evaluated, Tensor)
        assert isinstance(trained, tuple) == supervision
        if supervision:
            logits, attention = trained
            assert isinstance(attention, PatchAttention)
            assert logits.shape == evaluated.shape
            assert attention.grid == ((8, 8), 4, (2, 2))
            assert attention.dense().shape == (1, 3, 16, 1)


def test_supervision_changes_no_logits():
    image = torch.rand(1, 3, 8, 8)
    net = make_net()
    plain = net(image)
    net.attention_supervision = True
    torch.testing.assert_close(net(image)[0], plain)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("in_channels", [1, 4])
def test_other_image_channels_and_one_class(variant, in_channels):
    net = make_net(variant, classes=1, in_channels=in_channels, attention_supervision=True)
    logits, attention = net(torch.rand(2, in_channels, 9, 6))
    assert logits.shape == (2, 1, 9, 6)
    label = torch.randint(2, (2, 1, 9, 6))
    loss = AFMALoss()((logits, attention), label)
    loss.backward()
    assert loss.isfinite()
    assert net.afma_block.feature_conv.weight.grad.abs().max() > 0


@pytest.mark.parametrize("wrap", [lambda host: AFMANet(host, 3, patch_size=2), PaddedNetwork])
def test_the_host_sees_no_metadata_and_the_logits_have_them(wrap):
    """They slow every operation of the host, its backward pass most of all."""
    host, seen = TinyBackbone(), []
    net = wrap(host)
    host.register_forward_pre_hook(lambda module, inputs: seen.append(type(inputs[0])))
    image = MetaTensor(torch.rand(1, 3, 8, 12), meta={"filename_or_obj": "a.png"})
    logits = net(image)
    assert seen == [Tensor]
    assert isinstance(logits, MetaTensor) and logits.meta["filename_or_obj"] == "a.png"
    assert type(net(image.as_tensor())) is Tensor


def test_metadata_goes_through(unet):
    image = torch.rand(1, 3, 64, 64)
    for net in (unet.eval(), make_net().eval()):
        torch.testing.assert_close(torch.Tensor(net(MetaTensor(image)).as_subclass(Tensor)), net(image))
    logits, attention = make_net(attention_supervision=True)(MetaTensor(image))
    label = MetaTensor(torch.randint(3, (1, 1, 64, 64)))
    assert AFMALoss()((logits, attention), label).isfinite()


# Where the feature map comes from.


@pytest.mark.parametrize(("depth", "channels"), [(1, 64), (2, 64), (3, 128), (4, 256), (5, 512)])
def test_depth_is_the_map_of_stride_two_to_the_depth(unet, depth, channels):
    _, feature = FeatureTap(unet.backbone, depth).run(unet.backbone.eval(), torch.rand(1, 3, 64, 64))
    assert feature.shape == (1, channels, 64 // 2**depth, 64 // 2**depth)


def test_depth_counts_from_stride_two_where_the_encoder_leaves_the_image_out():
    """MONAI's FlexibleUNet has such an encoder: its list starts with the map of stride 2."""
    backbone = TinyBackbone()
    whole = backbone.encoder.forward
    backbone.encoder.forward = lambda x: whole(x)[1:]
    for depth in (1, 2):
        _, feature = FeatureTap(backbone, depth).run(backbone, torch.rand(1, 3, 16, 16))
        assert feature.shape[2:] == (16 // 2**depth, 16 // 2**depth)


def test_the_stride_of_a_dilated_encoder_is_read_from_the_shapes():
    net = AFMANet(TinyBackbone(last_stride=1), 3, feature=2, patch_size=2, attention_supervision=True)
    _, attention = net(torch.rand(1, 3, 8, 12))
    assert attention.grid.stride == 2


@pytest.mark.parametrize("name", ["encoder.first", "encoder.first.0", "encoder.second", "head"])
def test_dotted_names(name):
    """A name takes the very output of that module."""
    backbone, image = TinyBackbone().eval(), torch.rand(1, 3, 8, 8)
    seen = []
    backbone.get_submodule(name).register_forward_hook(lambda _module, _inputs, output: seen.append(output.clone()))
    logits, feature = FeatureTap(backbone, name).run(backbone, image)
    assert torch.equal(logits, backbone(image))
    # In-place layers after the tapped one may change its output, as nn.ReLU() does not.
    assert torch.equal(feature, seen[0])


@pytest.mark.parametrize(("stride", "padded"), [(2, (10, 14)), (4, (12, 16)), (3, (12, 15))])
def test_a_name_serves_a_backbone_without_encoder_of_any_stride(stride, padded):
    net = AFMANet(PlainBackbone(stride=stride), 3, feature="down.conv", patch_size=2, attention_supervision=True)
    logits, attention = net(torch.rand(1, 3, 10, 13))
    assert logits.shape == (1, 3, 10, 13)
    assert attention.grid == (padded, stride, (2, 2))


# Training.


@pytest.mark.parametrize("supervision", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_every_parameter(variant, supervision):
    """Through the correction alone, too: without supervision nothing else trains the block."""
    net = make_net(variant, attention_supervision=supervision, feature=2)
    output = net(torch.rand(2, 3, 16, 16))
    AFMALoss()(output, torch.randint(3, (2, 1, 16, 16))).backward()
    for name, parameter in net.named_parameters():
        if "never_run" not in name:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_gradients_reach_every_parameter_of_smp(unet):
    net = copy.deepcopy(unet).train()
    AFMALoss()(net(torch.rand(2, 3, 64, 64)), torch.randint(3, (2, 1, 64, 64))).backward()
    without = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []


def test_gradients_reach_the_image():
    image = torch.rand(1, 3, 8, 8, requires_grad=True)
    make_net().eval()(image).sum().backward()
    assert image.grad.abs().max() > 0


def test_a_stock_monai_trainer_trains_it_unchanged():
    """Without supervision the network is like any other: one tensor in, one tensor out, any loss."""
    net = AFMANet(TinyBackbone(), 3, patch_size=2)
    before = {name: value.clone() for name, value in net.named_parameters()}
    samples = [{"image": torch.rand(3, 10, 14), "label": torch.randint(3, (1, 10, 14))} for _ in range(4)]
    losses: list[float] = []
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(samples, batch_size=2),
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.5),
        loss_function=DiceCELoss(to_onehot_y=True, softmax=True),
    )
    trainer.add_event_handler("ITERATION_COMPLETED", lambda engine: losses.append(engine.state.output[0]["loss"]))
    trainer.run()
    assert trainer.state.iteration == len(losses) == 2
    assert all(torch.tensor(losses).isfinite())
    changed = {name for name, value in net.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if "never_run" not in name}


def test_training_lowers_the_loss_and_both_its_terms():
    """A few steps on one image: descent directions are right for backbone and block alike."""
    net, loss = make_net(attention_supervision=True), AFMALoss()
    label = torch.zeros(1, 1, 16, 16)
    label[..., 5:, 3:] = 1
    label[..., 9:, 9:] = 2
    image = label / 2 + 0.1 * torch.rand(1, 3, 16, 16)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    terms = []
    for _ in range(30):
        optimizer.zero_grad()
        loss(net(image), label).backward()
        optimizer.step()
        terms.append(loss.latest_terms)
    assert terms[-1].segmentation < 0.7 * terms[0].segmentation
    assert terms[-1].attention < 0.7 * terms[0].attention


# Half precision.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_autocast_costs_no_more_than_the_backbone_s_own_rounding(variant, dtype):
    """The attention runs in float32, so that what differs is what the backbone gave it."""
    torch.manual_seed(0)
    net = AFMANet(smp.Unet("resnet18", encoder_weights=None, classes=3), 3, variant=variant).eval()
    with torch.no_grad():
        # Untrained, it corrects by 1e-4: too little to see anything.
        net.afma_block.feature_conv.weight *= 2000 if variant == "released" else 200
        image = torch.rand(2, 3, 64, 96)
        expected, bare = net(image), net.backbone(image)
        with torch.autocast("cpu", dtype=dtype):
            got, bare_got = net(image), net.backbone(image)
    assert relative(expected, bare) > 1e-2, "the correction is large enough to matter"
    assert got.dtype == torch.float32
    assert got.isfinite().all()
    assert relative(got, expected) < min(1e-2, 1.1 * relative(bare_got.float(), bare))


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_training_under_autocast_is_finite(unet, dtype):
    net, image, label = copy.deepcopy(unet), torch.rand(2, 3, 32, 32), torch.randint(3, (2, 1, 32, 32))
    with torch.autocast("cpu", dtype=dtype):
        loss = AFMALoss()(net.train()(image), label)
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters() if parameter.grad is not None)


# Copying and saving.


def copies(net: AFMANet) -> dict[str, AFMANet]:
    fresh = make_net()
    fresh.load_state_dict(net.state_dict(), strict=True)
    return {
        "deepcopy": copy.deepcopy(net),
        "pickle": pickle.loads(pickle.dumps(net)),
        "state_dict": fresh,
    }


@pytest.mark.parametrize("way", ["deepcopy", "pickle", "state_dict"])
def test_copies_give_the_same_and_are_independent(way):
    net, image = make_net().eval(), torch.rand(1, 3, 9, 6)
    expected = net(image)
    copied = copies(net)[way].eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert torch.equal(copied(image), expected)
    assert not torch.equal(net(image), expected)


def test_the_backbone_keeps_its_own_names():
    """Weights go from a plain network to a wrapped one and back."""
    backbone = TinyBackbone()
    keys = set(backbone.state_dict())
    net = AFMANet(backbone, 3, patch_size=2)
    assert net.backbone is backbone
    assert set(backbone.state_dict()) == keys
    block = {f"afma_block.{name}" for name in net.afma_block.state_dict()}
    assert set(net.state_dict()) == {f"backbone.{key}" for key in keys} | block


def test_smp_weights_load_under_the_backbone(unet):
    plain = smp.Unet("resnet18", encoder_weights=None, classes=3)
    inside = {key.removeprefix("backbone."): value for key, value in unet.state_dict().items() if "afma_" not in key}
    plain.load_state_dict(inside, strict=True)
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(plain.eval()(image), unet.backbone.eval()(image))


# The blank image at construction, and hooks.


def test_the_probe_leaves_the_backbone_as_it_was():
    """Modes, also mixed ones, statistics of the normalisation, gradients."""
    backbone = TinyBackbone().train()
    backbone.encoder.eval()
    backbone.encoder.first[1].train()
    backbone(torch.randn(2, 3, 8, 8)).sum().backward()
    assert backbone.encoder.first[1].num_batches_tracked == 1
    modes = [module.training for module in backbone.modules()]
    state = copy.deepcopy(backbone.state_dict())
    gradients = [None if p.grad is None else p.grad.clone() for p in backbone.parameters()]
    with_graph = []
    backbone.head.register_forward_hook(lambda _module, _inputs, output: with_graph.append(output.requires_grad))
    AFMANet(backbone, 3, patch_size=2)
    assert set(with_graph) == {False}
    assert [module.training for module in backbone.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    for parameter, gradient in zip(backbone.parameters(), gradients, strict=True):
        assert (parameter.grad is None) if gradient is None else torch.equal(parameter.grad, gradient)


def test_the_probe_restores_the_modes_after_an_exception():
    backbone = TinyBackbone().train()
    backbone.fails = True
    # Bare, or told in the words of the package.
    with pytest.raises((RuntimeError, ValueError), match="out of memory"):
        AFMANet(backbone, 3)
    assert all(module.training for module in backbone.modules())
    assert not any(module._forward_hooks for module in backbone.modules())


def test_a_refused_backbone_is_left_without_hooks():
    backbone = TinyBackbone()
    for mistake in ({"out_channels": 7}, {"feature": 9}, {"feature": "never_run"}, {"patch_size": 0}):
        with pytest.raises(ValueError, match="must"):
            AFMANet(backbone, **{"out_channels": 3} | mistake)
    assert not any(module._forward_hooks for module in backbone.modules())


def test_the_map_is_kept_for_the_length_of_a_call_only():
    net, image = make_net(), torch.rand(1, 3, 8, 8)
    net(image)
    assert net.feature_tap._calls.captures is None
    net.backbone(image)
    assert net.feature_tap._calls.captures is None, "the backbone alone leaves nothing behind"
    net.backbone.fails = True
    with pytest.raises(RuntimeError, match="out of memory"):
        net(image)
    assert net.feature_tap._calls.captures is None
    net.backbone.fails = False
    assert net(image).shape == (1, 3, 8, 8)


def test_several_wrappers_may_share_a_backbone():
    backbone, image = TinyBackbone(), torch.rand(1, 3, 8, 8)
    nets = [AFMANet(backbone, 3, feature=depth, patch_size=2, attention_supervision=True) for depth in (1, 2)]
    assert [net(image)[1].grid.stride for net in nets] == [2, 4]


def test_the_tapped_module_may_be_replaced():
    """As fine-tuning adapters do."""
    net, image = make_net(feature=2).eval(), torch.rand(1, 3, 8, 8)
    expected = net(image)
    old = net.backbone.encoder
    net.backbone.encoder = copy.deepcopy(old)
    assert torch.equal(net(image), expected)
    assert not old._forward_hooks
    net.feature_tap.remove()
    assert torch.equal(net(image), expected), "a removed hook comes back when it is needed"
    copied = copy.deepcopy(net.backbone)
    logits, _ = net.feature_tap.run(copied, image)
    assert torch.equal(logits, net.backbone(image))


def test_a_backbone_in_bfloat16_is_probed_in_bfloat16():
    """The blank image has the type of the backbone's numbers."""
    net = AFMANet(TinyBackbone().bfloat16(), 3, patch_size=2)
    assert net.eval()(torch.rand(1, 3, 8, 8).bfloat16()).isfinite().all()


# Refusals.


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8), (1, 3, 8, 8, 8)])
def test_wrong_dimensions_are_refused(shape):
    with pytest.raises(ValueError, match=r"`image` must have the 4 axes \(B,C,H,W\); got shape "):
        make_net()(torch.rand(shape))


@pytest.mark.parametrize("channels", [1, 4])
def test_an_image_of_other_channels_is_refused_before_the_backbone_runs(channels):
    with pytest.raises(ValueError, match=f"`image` must have 3 channels; got {channels}.*in_channels"):
        make_net()(torch.rand(1, channels, 8, 8))


def test_a_backbone_for_other_image_channels_is_refused():
    with pytest.raises(ValueError, match="in_channels"):
        AFMANet(TinyBackbone(in_channels=3), 3, in_channels=1)


@pytest.mark.parametrize("patch_size", [0, -10, (10, 0), (1, 2, 3)])
def test_a_patch_size_that_is_not_positive_is_refused(patch_size):
    with pytest.raises(ValueError, match=r"`patch_size` must be a positive int or .* got .*The paper uses 10"):
        make_net(patch_size=patch_size)


def test_an_unknown_variant_is_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"`variant` must be one of \('released', 'paper'\); got 'original'"):
        make_net("original")


def test_an_unknown_module_is_refused_with_near_names_first():
    with pytest.raises(ValueError, match="`feature` must name a module of the backbone; got 'encoder") as refusal:
        make_net(feature="encoder.secnd")
    message = str(refusal.value)
    listed = message[message.index("[") :]
    assert listed.startswith("['encoder.second'")
    assert all(f"'{name}'" in listed for name in ("encoder", "encoder.first", "head"))


def test_the_empty_name_is_refused():
    with pytest.raises(ValueError, match=r"`feature` must name a module of the backbone; got ''\. Choose one of"):
        make_net(feature="")


def test_the_list_of_names_is_cut_where_it_is_long():
    with pytest.raises(ValueError, match=r"or of the other \d+ in named_modules\(\)\.$") as refusal:
        FeatureTap(nn.ModuleDict({f"layer{i}": nn.Identity() for i in range(60)}), "block")
    assert str(refusal.value).count("'layer") == 40


@pytest.mark.parametrize("depth", [-1, 0, 3, 100])
def test_a_depth_out_of_range_is_refused_with_the_maps_there_are(depth):
    message = f"`feature` must be an encoder depth from 1 to 2; got {depth}. The maps here: "
    with pytest.raises(ValueError, match=message) as refusal:
        make_net(feature=depth)
    assert "1: shape (1, 4, 64, 64), 2: shape (1, 5, 32, 32)" in str(refusal.value)


def test_a_depth_needs_an_encoder():
    message = r"`feature` must be a module name for a backbone without `encoder`; got depth 2\. Choose one of \['down'"
    with pytest.raises(ValueError, match=message):
        AFMANet(PlainBackbone(), 3)


def test_a_depth_needs_an_encoder_that_returns_several_maps():
    backbone = nn.Sequential()
    backbone.add_module("encoder", nn.Conv2d(3, 3, 3, padding=1))
    message = r"`feature` must be a module name for a backbone whose encoder returns one map; got depth 1 and shape"
    with pytest.raises(ValueError, match=message):
        AFMANet(backbone, 3, feature=1)


@pytest.mark.parametrize("feature", [True, None, 2.0, [[2]], {"all": None}])
def test_a_feature_that_is_neither_depth_nor_name_is_refused(feature):
    with pytest.raises(TypeError, match=r"`feature` must be an encoder depth \(int\) or a dotted module name \(str\)"):
        make_net(feature=feature)


def test_a_module_that_does_not_run_is_refused():
    message = "`feature` must name a module that runs in the forward pass; 'never_run' did not"
    with pytest.raises(ValueError, match=message):
        make_net(feature="never_run")


@pytest.mark.parametrize(
    ("backbone", "name", "given"), [(TinyBackbone, "encoder", "list"), (PlainBackbone, "side_path", "shape")]
)
def test_a_module_that_gives_no_map_is_refused(backbone, name, given):
    message = rf"`feature` must give a map of shape \(B,F,h,w\); '{name}' gave {given}"
    with pytest.raises(ValueError, match=message):
        AFMANet(backbone(), 3, feature=name)


@pytest.mark.parametrize("mistake", ["larger", "no whole stride", "two strides"])
def test_a_map_without_a_whole_stride_is_refused_at_construction(mistake):
    """Not at the first image: by then a training has been set up."""
    layer = {
        "larger": nn.Upsample(scale_factor=2),
        "no whole stride": nn.Conv2d(3, 4, 3),
        "two strides": nn.Conv2d(3, 4, 3, stride=(2, 4), padding=1),
    }[mistake]

    with pytest.raises(ValueError, match=r"`feature` must .*stride"):
        AFMANet(PlainBackbone(side_path=layer), 3, feature="side_path")


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_another_class_count_than_the_backbone_is_refused(classes):
    side = PROBE_SIZES[0]
    message = rf"`backbone` must give logits of shape \(B, {classes}, H, W\) .* gave \(1, 3, {side}, {side}\)"
    with pytest.raises(ValueError, match=message):
        AFMANet(TinyBackbone(3), classes)


def test_a_backbone_without_logits_or_of_another_size_is_refused():
    none = TinyBackbone()
    alone = none.forward
    none.forward = lambda x: {"masks": alone(x)}
    with pytest.raises(ValueError, match=r"`backbone` must give logits of shape .* gave dict"):
        AFMANet(none, 3)
    small = TinyBackbone()
    whole = small.forward
    small.forward = lambda x: whole(x)[:, :, ::4, ::4]
    with pytest.raises(ValueError, match=r"`backbone` must give logits of shape .* gave \(1, 3, 32, 32\)"):
        AFMANet(small, 3)
