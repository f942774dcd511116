"""What the layouts on Mask2Former's decoders share: their names in a file, and how every parameter finds its place."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..config import SegmenterConfig
from ..model import MaskModel
from ..text.clip_text import ClipText
from ..weights.checks import check_weights
from .account import Account, Shape, Shapes, compare_shapes
from .coco_names import COCO_PANOPTIC, COCO_STUFF
from .layout import Layout, Vocabulary

Rules = tuple[tuple[str, str], ...]  # (pattern at the start of our name, what stands there in the published one)

HEAD = "sem_seg_head."
QUERY = HEAD + "predictor."
_PIXEL = HEAD + "pixel_decoder."

DECODERS: Rules = (
    (r"pixel_decoder\.input_proj\.", _PIXEL + "input_proj."),
    (r"pixel_decoder\.level_embed$", _PIXEL + "transformer.level_embed"),
    (r"pixel_decoder\.layers\.", _PIXEL + "transformer.encoder.layers."),
    (r"pixel_decoder\.fpn\.0\.lateral\.conv\.", _PIXEL + "adapter_1."),
    (r"pixel_decoder\.fpn\.0\.lateral\.norm\.", _PIXEL + "adapter_1.norm."),
    (r"pixel_decoder\.fpn\.0\.output\.conv\.", _PIXEL + "layer_1."),
    (r"pixel_decoder\.fpn\.0\.output\.norm\.", _PIXEL + "layer_1.norm."),
    (r"pixel_decoder\.mask_features\.", _PIXEL + "mask_features."),
    (r"query_decoder\.layers\.(\d+)\.self_attn\.", QUERY + r"transformer_self_attention_layers.\1.self_attn."),
    (r"query_decoder\.layers\.(\d+)\.self_norm\.", QUERY + r"transformer_self_attention_layers.\1.norm."),
    (r"query_decoder\.layers\.(\d+)\.cross_attn\.", QUERY + r"transformer_cross_attention_layers.\1.multihead_attn."),
    (r"query_decoder\.layers\.(\d+)\.cross_norm\.", QUERY + r"transformer_cross_attention_layers.\1.norm."),
    (r"query_decoder\.layers\.(\d+)\.ffn_norm\.", QUERY + r"transformer_ffn_layers.\1.norm."),
    (r"query_decoder\.layers\.(\d+)\.linear", QUERY + r"transformer_ffn_layers.\1.linear"),
    (r"query_decoder\.(query_feat|query_embed|level_embed)$", QUERY + r"\1.weight"),
    (r"query_decoder\.", QUERY),
    (r"class_embed\.", QUERY + "class_embed."),
)

OURS_ALONE = frozenset({"seen_vectors"})  # in our state dict, in no published file

_COUNTER = ".num_batches_tracked"  # of batch norms: counts training steps
_CLASS_WEIGHTS = "criterion.empty_weight"  # of the loss: one for each class and "no object"


class Mask2FormerLayout(Layout):
    """A backbone, Mask2Former's two decoders under `sem_seg_head`, and a CLIP text tower."""

    signature: ClassVar[re.Pattern[str]]  # of names that only this layout has
    text_prefix: ClassVar[str]  # the text tower's names follow it unchanged
    slim: ClassVar[bool] = False  # a release may leave out the text tower, and each part of `not_needed`, as a whole

    @abstractmethod
    def read_config(self, shapes: Mapping[str, Shape], origin: str) -> SegmenterConfig:
        """Config of a published file; raises `CheckpointError` for shapes that make no such model."""

    @abstractmethod
    def published_name(self, name: str, config: SegmenterConfig) -> str:
        """What the published file of this model calls our parameter `name`."""

    def not_needed(
        self, config: SegmenterConfig, found: Mapping[str, Shape], classes: Sequence[int] = (len(COCO_PANOPTIC),)
    ) -> list[Shapes]:
        """Names and shapes of what a published file holds and inference does not need, part by part.

        The sizes that the config does not tell are read from the file's own shapes `found`, where they are possible
        ones; the training vocabulary has one of the sizes `classes`.
        """
        weights = [(count + 1,) for count in classes]
        shown = found.get(_CLASS_WEIGHTS)
        return [{_CLASS_WEIGHTS: shown if shown in weights else weights[0]}]

    def complete(self, model: MaskModel, extras: dict[str, Any], origin: str) -> None:
        """Give `model` what it takes from the rest of the file, after its own parameters are loaded."""

    def matches(self, names: AbstractSet[str]) -> int:
        """See `Layout`."""
        if not any(name.startswith(HEAD) for name in names):
            return 0
        return sum(1 for name in names if self.signature.match(name))

    def account_for(
        self,
        model: MaskModel,
        state: Mapping[str, Tensor],
        origin: str,
        classes: Sequence[int] = (len(COCO_PANOPTIC),),
    ) -> Account:
        """Find a place for every parameter, or raise `CheckpointError` naming those that have or fill none.

        The names and shapes of a whole file follow from the config of `model`; `classes` are the sizes a training
        vocabulary may have. What a `slim` release may leave out, it must leave out as a whole; so it is with the
        counters of all batch norms, which some tools strip.
        """
        config, own = model.config, model.state_dict()
        found = {name: tuple(value.shape) for name, value in state.items()}
        with torch.device("meta"):
            tower = ClipText(config.text).state_dict()
        names = {self.published_name(name, config): name for name in own if name not in OURS_ALONE}
        text_names = {self.text_prefix + name: name for name in tower}
        expected = {name: tuple(own[ours].shape) for name, ours in names.items()}
        text = {name: tuple(tower[ours].shape) for name, ours in text_names.items()}
        for part in (text, *self.not_needed(config, found, classes)):
            if not self.slim or _any(part, found):
                expected |= part
        if not _any((name for name in expected if name.endswith(_COUNTER)), found):
            expected = {name: shape for name, shape in expected.items() if not name.endswith(_COUNTER)}
        compare_shapes(found, expected, f"{origin} looks like a {self.title} checkpoint ({config.name})")
        return Account(
            {name: ours for name, ours in names.items() if name in found},
            {name: ours for name, ours in text_names.items() if name in found},
            tuple(name for name in found if name not in names and name not in text_names),
        )

    @abstractmethod
    def build(self, config: SegmenterConfig) -> MaskModel:
        """See `Layout`."""

    def load(
        self, state: Mapping[str, Tensor], origin: str, vocabulary: Vocabulary | None = None
    ) -> tuple[MaskModel, dict[str, Any]]:
        """See `Layout`; the usual vocabulary is COCO panoptic."""
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        config = self.read_config(shapes, f"{origin}, a {self.title} checkpoint")
        model = self.build(config)
        trained = [list(names) for names in vocabulary or COCO_PANOPTIC]
        account = self.account_for(model, state, origin, (len(COCO_PANOPTIC), len(trained)))
        check_weights({name: state[name] for name in (*account.model, *account.text)}, origin)
        own = {ours: state[name].float() for name, ours in account.model.items()}
        model.load_state_dict(
            {name: own.get(name, torch.zeros_like(value)) for name, value in model.state_dict().items()}
        )
        model.eval()
        extras: dict[str, Any] = {
            "training_vocabulary": trained,
            "provenance": {
                "preset": config.name,
                "parameters_used": len(account.model) + len(account.text),
                "parameters_not_needed": len(account.not_needed),
            },
        }
        if vocabulary is None:
            extras["stuff"] = [names[0] for names in COCO_STUFF]
        if account.text:
            extras["text_encoder"] = {ours: state[name].float() for name, ours in account.text.items()}
        self.complete(model, extras, origin)
        return model, extras


def renamed(name: str, rules: Rules) -> str:
    """`name` by the first of `rules` that matches its start; unchanged if none does."""
    for pattern, replacement in rules:
        result, count = re.subn(r"\A" + pattern, replacement, name)
        if count:
            return result
    return name


def _any(names: Iterable[str], found: Mapping[str, Shape]) -> bool:
    return any(name in found for name in names)
