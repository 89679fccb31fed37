"""Wrap any segmentation network with AFMA: backbone, feature tap, block and modulation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from afma_med._ops.tensors import with_metadata_of, without_metadata
from afma_med.checks import check_module
from afma_med.functional import compress_prediction, modulate_logits, split_patches
from afma_med.grouped_attention import Attention, correct_logits, split_prediction
from afma_med.networks.afma_block import AFMABlock, Variant, check_variant
from afma_med.networks.afma_blocks import Feature, PatchSize, Source, build_block, check_choices, list_depths
from afma_med.networks.optimizer_watch import OptimizerWatch
from afma_med.networks.scripting import AttentionCorrection, ScriptableHost
from afma_med.networks.tapped_host import HostRun, TappedHost

__all__ = ["AFMANet"]


class AFMANet(TappedHost):
    """Correct a segmentation network's logits with the attention between its image and one of its feature maps.

    Any image size goes in and comes out: the image is zero-padded at the bottom and right to what the backbone and the
    stride need (``input_sizes``, found at construction with blank images), the logits are cropped back. The backbone's
    own state_dict stays whole under ``backbone.``.

    Hosts may return more than logits: deeply supervised levels (a list, or stacked as (B,levels,K,H,W)), a tuple with
    an auxiliary output, a dictionary with ``out`` or ``logits``, or an object with ``logits``. The logits of the
    highest resolution are corrected; everything else is passed through, cropped as the image was padded.

    The probe runs the backbone about seven times on blank images of 32 to 160 pixels a side, without gradients: one to
    two seconds for a Unet with ResNet-18 to ResNet-101 on one CPU core. Backbones of one fixed size, such as vision
    transformers, are tried on a few sizes more.

    Args:
        backbone: network (B,C,H,W) -> logits (B,K,H,W), for example of segmentation_models_pytorch or MONAI.
        out_channels: K, the classes of the backbone's output; 1 is binary (sigmoid). Default: as many as the backbone
            has; another number than that is an error.
        feature: encoder depth (the map of stride 2^depth in an undilated encoder: 1, 2, ...) or dotted module name. A
            list of them corrects with the mean of their corrections. A mapping from groups to these corrects the
            classes of the groups alone.
        in_channels: C, channels of the image.
        patch_size: p, or (ph, pw), in pixels; or a mapping from groups to these, 10 for the classes of no group.
        attention_supervision: in train mode, return the attention next to the logits, for :class:`~afma_med.AFMALoss`.
        upsample_logits: resize logits that are smaller than the image bilinearly before they are corrected, as for the
            transformers of Hugging Face, whose logits have stride 4.
        variant: ``"released"`` or ``"paper"``, see :class:`~afma_med.AFMABlock`; the paper variant also spreads
            class probabilities instead of the one-hot arg max.
        source: ``"feature"``, or ``"image"``, which uses the image, resized to the size of the feature map, in place
            of the map: the paper's control (Sec. 5).
        class_groups: the groups: indices of classes by name. Groups that one mapping names must not overlap.

    Warns:
        UserWarning: in training, once, if the optimizer changes the backbone's parameters and not the block's.

    Raises:
        TypeError: if the backbone is not a network, or the feature neither a depth nor a name.
        ValueError: if the backbone does not run on blank images, returns no logits of K channels in eval or train mode,
            applies an activation to them or is compiled, or if a feature or group does not exist or does not fit.

    Example:
        >>> import segmentation_models_pytorch as smp
        >>> import torch
        >>> net = AFMANet(smp.Unet("resnet18", encoder_weights=None, classes=12), out_channels=12)
        >>> net.eval()(torch.rand(1, 3, 90, 120)).shape
        torch.Size([1, 12, 90, 120])

    Reference:
        Sang, Zhou, Islam, Xing: Small-Object Sensitive Segmentation Using Across Feature Map Attention, TPAMI 2023.
    """

    def __init__(  # noqa: PLR0913 -- options of one network
        self,
        backbone: nn.Module,
        out_channels: int | None = None,
        *,
        feature: Feature = 2,
        in_channels: int = 3,
        patch_size: PatchSize = 10,
        attention_supervision: bool = False,
        upsample_logits: bool = False,
        variant: Variant = "released",
        source: Source = "feature",
        class_groups: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        check_module("backbone", backbone)
        check_variant(variant)
        check_choices(feature, patch_size, source)
        super().__init__(
            backbone,
            list_depths(feature),
            out_channels,
            in_channels=in_channels,
            upsample_logits=upsample_logits,
            whole_strides=True,
        )
        self.attention_supervision = attention_supervision
        self.variant = variant
        self._optimizer_watch = OptimizerWatch()
        try:
            self.afma_block = build_block(
                feature,
                patch_size,
                self.feature_channels,
                self.out_channels,
                class_groups=class_groups or {},
                source=source,
                in_channels=in_channels,
                variant=variant,
            )
        except ValueError:
            self.feature_tap.remove()
            raise

    def forward(self, image: Tensor) -> Any:
        """Segment a batch of images.

        Args:
            image: (B,C,H,W), any size.

        Returns:
            Logits (B,K,H,W), or the backbone's own kind of output with corrected logits; in train mode with
            ``attention_supervision``, (output, attention).

        Raises:
            TypeError: if ``image`` is not a tensor of floating point numbers of the network's kind.
            ValueError: if it is not 4-D, has not C channels, is larger than the only size of the backbone, or lies on
                another device.
        """
        self._optimizer_watch.check(self.backbone, self.afma_block, training=self.training)
        run = self.run_host(image)
        if self._needs_strips(run):
            return self.replace_host_logits(run, self._correct_in_strips(run))
        attention = self.afma_block(run.image, *run.features)
        output = self.replace_host_logits(run, self.correct(run.logits, attention))
        return (output, attention) if self.training and self.attention_supervision else output

    def attend(self, image: Tensor) -> tuple[Tensor, Attention]:
        """Segment a batch of images without correcting, for whoever wants to see what the attention does.

        Args:
            image: (B,C,H,W), any size.

        Returns:
            The backbone's own logits (B,K,H,W), and the attention that :meth:`forward` corrects them with: of several
            depths or groups of classes, a :class:`~afma_med.GroupedAttention`.

        Raises:
            TypeError: if ``image`` is not a tensor of floating point numbers of the network's kind.
            ValueError: if it is not 4-D, has not C channels, is larger than the only size of the backbone, or lies on
                another device.
        """
        run = self.run_host(image)
        return run.logits, self.afma_block(run.image, *run.features)

    def correct(self, logits: Tensor, attention: Any, values: Any = None) -> Tensor:
        """Correct logits by what the attention says of them: what :meth:`forward` does with those of :meth:`attend`.

        A subclass may correct otherwise.

        Args:
            logits: (B,K,H,W).
            attention: of the same images.
            values: as :meth:`split_prediction` returns them, spread in place of the prediction's own, for whoever wants
                to see whether they matter.

        Returns:
            (B,K,H,W).

        Raises:
            ValueError: if ``logits`` and ``attention`` disagree, or ``values`` has not the key's shape.
        """
        return correct_logits(logits, attention, soft=self.variant == "paper", values=values)

    def split_prediction(self, logits: Tensor, attention: Any) -> Any:
        """Compress a prediction and split it into patches: the values that :meth:`correct` spreads.

        Args:
            logits: (B,K,H,W).
            attention: of the same images.

        Returns:
            V, (B,K,M,D); of several attentions, a tuple of them.
        """
        return split_prediction(logits, attention, soft=self.variant == "paper")

    def _needs_strips(self, run: HostRun) -> bool:
        """Tell whether to save memory: in inference, with large images, and where no subclass corrects otherwise."""
        # Of a subclass of the block, too, only the whole attention is known.
        plain = type(self).correct is AFMANet.correct and type(self.afma_block) is AFMABlock
        infers = not self.training and not torch.is_grad_enabled()
        return plain and infers and cast(AFMABlock, self.afma_block).needs_strips(run.image)

    def _correct_in_strips(self, run: HostRun) -> Tensor:
        """What :meth:`correct` gives, without the attention of all rows at once."""
        block, soft = cast(AFMABlock, self.afma_block), self.variant == "paper"
        plain, [feature] = without_metadata(run.logits), run.features
        grid = block.find_grid(run.image, feature)
        values = split_patches(compress_prediction(plain, grid, soft=soft), grid.patch_size)
        corrected = torch.empty_like(plain, dtype=values.dtype, memory_format=torch.contiguous_format)
        for i in range(len(plain)):
            one = slice(i, i + 1)
            for rows, attention in block.in_strips(run.image[one], feature[one]):
                if rows.start < plain.shape[2]:  # below are rows that pad the image
                    corrected[one, :, rows] = modulate_logits(plain[one, :, rows], attention, values=values[one])
        return with_metadata_of(corrected, run.logits)

    def __prepare_scriptable__(self) -> nn.Module:
        """What torch.jit.script compiles in place of this module."""
        return ScriptableHost(
            self.backbone,
            self.feature_tap,
            AttentionCorrection(self.afma_block, soft=self.variant == "paper"),
            in_channels=self.in_channels,
            sizes=self.input_sizes,
        )

    def _replicate_for_data_parallel(self) -> AFMANet:
        if self.training and self.attention_supervision:
            raise RuntimeError(
                "nn.DataParallel must not train an AFMANet with attention_supervision: it cannot gather the attention. "
                "Use torch.nn.parallel.DistributedDataParallel."
            )
        return super()._replicate_for_data_parallel()  # type: ignore[no-any-return,no-untyped-call]
