"""Networks of chain architectures: timm's MobileNetV3 with the arguments that make it the published network.

State dicts have the published layout. timm's defaults for this class are another network in four places: the
activation is SiLU, squeeze-and-excitation has ReLU inside and a hard sigmoid as its gate, and its widths are rounded
to multiples of 8.
"""

from functools import partial
from typing import Any, Literal, TypeVar, overload

from timm.models._builder import build_model_with_cfg, pretrained_cfg_for_features
from timm.models._efficientnet_blocks import ConvBnAct, DepthwiseSeparableConv, InvertedResidual, SqueezeExcite
from timm.models._efficientnet_builder import decode_arch_def, resolve_bn_args, round_channels
from timm.models.mobilenetv3 import MobileNetV3, MobileNetV3Features
from torch import Tensor, nn

from CyDAS.models import checkpointing
from CyDAS.models.backbone import Backbone
from CyDAS.models.chain.architecture import STEM_WIDTH, Architecture, block_strings
from CyDAS.models.fuse import fold_into
from CyDAS.models.heads import RetrainedNetwork, RetrainOutput

#: Channels before the last layer, unless ``num_features`` says others.
HEAD_WIDTH = 1280
#: Where timm keeps the features of strides 4, 8, 16 and 32; its index 0 is stage 0, at stride 2.
FEATURE_INDICES = (1, 2, 3, 4)
#: Arguments of classifiers that mean nothing to a backbone. (timm's annotation knows a tuple of one only.)
_CLASSIFIER_ONLY: Any = ("num_classes", "num_features", "head_bias", "head_norm", "global_pool")


#: Squeeze-and-excitation of this family: ReLU inside whatever the block has, hard sigmoid, width rounded to 8.
squeeze_excite = partial(SqueezeExcite, force_act_layer=nn.ReLU, gate_layer="hard_sigmoid", rd_round_fn=round_channels)


class ChainBackbone(MobileNetV3Features, Backbone):
    """A chain without its head: features at strides 4, 8, 16 and 32, for images of any size.

    timm's ``out_indices`` says other strides. The features are what timm's ``features_only`` gives.
    """

    head_parts = ("conv_head.", "classifier.")
    __constants__ = ["channels", "strides"]  # for torch.jit.script, which cannot read their types

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.channels = tuple(self.feature_info.channels())
        self.strides = tuple(self.feature_info.reduction())

    def features(self, x: Tensor) -> list[Tensor]:
        return self(x)


class RetrainedChain(MobileNetV3, RetrainedNetwork):
    """The found network in a retraining and a test: it answers as the other spaces' networks do.

    Its state dict is timm's own. Drop path has timm's rates: constant over the epochs, growing with the depth.
    """

    def set_drop_path(self, p: float) -> None:
        """Rates are the builder's (``drop_path_rate``), and stay as they are."""

    def fold_batch_norm(self) -> None:
        """What :func:`CyDAS.models.fuse.fold_batch_norms` asks of a module; the activations stay."""
        for module in self.modules():
            for convolution, norm in _NORMS.get(type(module), ()):
                bn = getattr(module, norm)
                fold_into([getattr(module, convolution)], bn)
                setattr(module, norm, bn.act)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv_stem(x))
        stage: Any  # a Sequential
        for stage in self.blocks:
            for block in stage:  # timm's own checkpointing would move the batch norms' statistics twice
                x = checkpointing.run(block, self.grad_checkpointing, x)
        return x

    def forward(self, x: Tensor) -> RetrainOutput:  # type: ignore[override]  # as the other spaces' networks answer
        """``x``: [N, C, H, W]."""
        return RetrainOutput(super().forward(x), None)


#: Which batch norm follows which convolution.
_NORMS = {
    RetrainedChain: (("conv_stem", "bn1"),),
    DepthwiseSeparableConv: (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    InvertedResidual: (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
    ConvBnAct: (("conv", "bn1"),),
}


Network = TypeVar("Network", bound=MobileNetV3)


@overload
def chain_network(architecture: Architecture, *, features_only: Literal[True], **options: Any) -> ChainBackbone: ...
@overload
def chain_network(architecture: Architecture, *, kind: type[Network], **options: Any) -> Network: ...
@overload
def chain_network(architecture: Architecture, **options: Any) -> MobileNetV3: ...
def chain_network(
    architecture: Architecture,
    *,
    c_last: int = 960,
    features_only: bool = False,
    kind: type[MobileNetV3] = MobileNetV3,
    variant: str = "cdarts_chain",
    pretrained: bool = False,
    **options: Any,
) -> MobileNetV3 | ChainBackbone:
    """The network of an architecture, ``[N, C, H, W]`` to logits; with ``features_only`` a :class:`ChainBackbone`.

    ``c_last``: channels of stage 6 (960; 320 in Cream's networks and the segmentation's). ``kind``: the class of a
    network with a head. ``options``: timm's of
    MobileNetV3 (``num_classes``, ``in_chans``, ``drop_rate``, ``drop_path_rate``, ...), of its factory
    (``pretrained_cfg``, ...) and, with ``features_only``, ``out_indices``. ``variant`` is the name that timm looks up
    the settings of pretrained weights by.
    """
    options = {"num_features": HEAD_WIDTH, **options}
    if features_only:
        options = {"out_indices": FEATURE_INDICES, **options}
    batch_norm = partial(nn.BatchNorm2d, **resolve_bn_args(options))
    network: Any = build_model_with_cfg(
        ChainBackbone if features_only else kind,
        variant,
        pretrained,
        pretrained_strict=not features_only,
        kwargs_filter=_CLASSIFIER_ONLY if features_only else None,
        block_args=decode_arch_def(block_strings(architecture, c_last)),
        stem_size=STEM_WIDTH,
        head_bias=True,
        act_layer=nn.SiLU,
        norm_layer=batch_norm,
        se_layer=squeeze_excite,
        se_from_exp=True,
        round_chs_fn=round_channels,
        **options,
    )
    if features_only:
        network.default_cfg = pretrained_cfg_for_features(network.default_cfg)
    return network
