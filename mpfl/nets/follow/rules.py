"""Which rule each operation without weights has: what it does to labels.

Five kinds cover nearly all of them: operations that only move elements about, those that look at
one element at a time, those that pool over pixels, sums, and products.
"""

from __future__ import annotations

from torch import fx, nn

from mpfl.nets.follow.elements import (
    clamped,
    compared,
    fresh,
    gathered,
    mixing,
    moved,
    not_zero,
    padded,
    pooled,
    reduced,
    same,
    scanned,
    steep,
    taken,
)
from mpfl.nets.follow.network import DEPTH, operation
from mpfl.nets.follow.sums import (
    added,
    attended,
    contracted,
    divided,
    filled,
    gated,
    multiplied,
    powered,
)
from mpfl.nets.follow.walk import StepRule

_MOVES = """flatten reshape view permute transpose unsqueeze squeeze cat concat concatenate stack
split split_with_sizes chunk unbind expand expand_as repeat repeat_interleave flip roll narrow
select movedim swapaxes swapdims pixel_shuffle pixel_unshuffle unflatten tile
tensor_split broadcast_to view_as reshape_as t moveaxis hstack vstack dstack contiguous clone
detach channel_shuffle"""
_SAME = """relu relu_ relu6 leaky_relu leaky_relu_ elu elu_ selu celu gelu silu hardswish mish tanh
softsign tanhshrink hardshrink softshrink dropout dropout_ dropout1d dropout2d dropout3d
stochastic_depth drop_path abs neg square sin sinh asin
atan erf expm1 log1p sign float double half to type type_as bfloat16 requires_grad_ rrelu trunc
relu6_ silu_ zeros_like"""
_NOT_ZERO = """sigmoid sigmoid_ hardsigmoid softplus exp cos cosh logsigmoid
threshold rad2deg erfc ones_like full_like empty_like rand_like randn_like bernoulli bernoulli_
uniform_ normal_ fill_"""
_POOLS = """max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d interpolate
upsample lp_pool2d"""
_MIXES = "softmax log_softmax layer_norm rms_norm group_norm local_response_norm"
_REDUCES = "mean sum amax amin max min median std var norm logsumexp"
BY_NAME: dict[str, StepRule] = {
    **dict.fromkeys(_MOVES.split(), moved),
    **dict.fromkeys(_SAME.split(), same),
    **dict.fromkeys(_NOT_ZERO.split(), not_zero),
    **dict.fromkeys(_POOLS.split(), pooled),
    **dict.fromkeys(_MIXES.split(), mixing),
    **dict.fromkeys(_REDUCES.split(), reduced),
    **dict.fromkeys(("sqrt", "sqrt_", "log", "log2", "log10", "rsqrt", "reciprocal"), steep),
    **dict.fromkeys(("lt", "le", "gt", "ge", "eq", "ne"), compared),
    **dict.fromkeys(("new_empty", "new_zeros", "new_ones", "new_full"), fresh),
    **dict.fromkeys(("cumsum", "cummax", "cummin", "sort", "topk"), scanned),
    **dict.fromkeys(("add", "add_", "iadd", "sub", "sub_", "isub", "subtract"), added),
    **dict.fromkeys(("mul", "mul_", "imul", "multiply"), multiplied),
    **dict.fromkeys(("div", "div_", "truediv", "itruediv", "divide"), divided),
    **dict.fromkeys(("pow", "pow_", "ipow"), powered),
    **dict.fromkeys(("matmul", "bmm", "mm"), contracted),
    **dict.fromkeys(("clamp", "clip", "clamp_", "hardtanh"), clamped),
    **dict.fromkeys(("masked_fill", "masked_fill_"), filled),
    "glu": gated,
    "getitem": taken,
    "getattr": taken,
    "pad": padded,
    "scaled_dot_product_attention": attended,
}
_BY_MODULE: dict[type, StepRule] = {
    **dict.fromkeys(
        (nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle), moved
    ),
    **dict.fromkeys(
        (nn.Identity, nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
         nn.Hardswish, nn.Mish, nn.Tanh, nn.Softsign, nn.Tanhshrink, nn.Hardshrink, nn.Softshrink,
         nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.RReLU),
        same,
    ),
    **dict.fromkeys((nn.Sigmoid, nn.Hardsigmoid, nn.Softplus, nn.LogSigmoid), not_zero),
    **dict.fromkeys(
        (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
         nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d,
         nn.AdaptiveMaxPool2d, nn.LPPool2d, nn.Upsample, nn.UpsamplingNearest2d,
         nn.UpsamplingBilinear2d),
        pooled,
    ),
    **dict.fromkeys(
        (nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d, nn.ZeroPad1d),
        padded,
    ),
    **dict.fromkeys(
        (nn.Softmax, nn.LogSoftmax, nn.Softmin, nn.Softmax2d, nn.LocalResponseNorm, nn.GroupNorm,
         nn.LayerNorm, nn.RMSNorm),
        mixing,
    ),
    nn.Hardtanh: clamped,
    nn.GLU: gated,
}  # fmt: skip


def rule_of(node: fx.Node, part: nn.Module | None) -> StepRule | None:
    """The rule of an operation without weights, if there is one; ``part`` if it is a module."""
    if node.op == "get_attr":
        return None
    if part is not None:
        if operation(node, part) == DEPTH:
            return same
        if isinstance(part, nn.Sequential) and not len(part):
            return same
        kinds = [kind for kind in _BY_MODULE if isinstance(part, kind)]
        # The nearest one: ReLU6 is a Hardtanh, too.
        return _BY_MODULE[max(kinds, key=lambda kind: len(kind.__mro__))] if kinds else None
    if isinstance(node.target, type) and issubclass(node.target, tuple):
        return gathered
    module = getattr(node.target, "__module__", None) or ""
    known = module.partition(".")[0] in ("", "torch", "torchvision", "_operator", "builtins")
    return BY_NAME.get(operation(node, None)) if node.op == "call_method" or known else None
