"""A real bundle, small enough to be predictable: it tells colours apart.

Text vectors are colours (D = 3, BGR), and so are pixels; a pixel's class is the name whose colour points its way.
The graphs, the tokenizer and the manifest obey the contract in full, so everything around the network can be tested
with answers known in advance, in milliseconds.

A panoptic one has six queries besides: red, green and blue, each in the left and the right half of the input. So one
red region on either side makes two red things.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from ovs_edge.bundle.bundle import MANIFEST, sha256
from ovs_edge.bundle.manifest import SEGMENTER, TEXT_ENCODER, TOKENIZER, GraphSpec, Manifest, TensorSpec, TextSpec
from ovs_edge.runtime.examples.region_spec import EXAMPLES, PlacesSpec, QueriesSpec, RegionSpec

HEIGHT, WIDTH = 48, 64
MAX_CLASSES = 500
CONTEXT = 8
_TEMPERATURE = 20.0
_QUERIES = 6
_QUERY_OUTPUTS = (
    TensorSpec("mask_logits", "float32", (1, _QUERIES, HEIGHT // 4, WIDTH // 4)),
    TensorSpec("class_logits", "float32", (1, _QUERIES, "K + 1")),
)

# BGR directions of every word the encoder knows; any other word is silent.
COLOURS: dict[str, tuple[int, int, int]] = {
    "blue": (1, 0, 0), "sky": (1, 0, 0), "azure": (1, 0, 0),
    "green": (0, 1, 0), "grass": (0, 1, 0), "lawn": (0, 1, 0),
    "red": (0, 0, 1), "crimson": (0, 0, 1), "brick": (0, 0, 1),
    "yellow": (0, 1, 1), "cyan": (1, 1, 0), "magenta": (1, 0, 1), "grey": (1, 1, 1), "wall": (1, 1, 1),
}  # fmt: skip
TRAINING = (
    ("blue", "sky"), ("green", "grass"), ("red", "brick"), ("yellow",), ("cyan",), ("magenta",), ("grey",),
)  # fmt: skip


def build(folder: Path, panoptic: bool = False, regions: bool = False, **changes: Any) -> Path:
    """Write the bundle into `folder`, with `changes` to its manifest's fields; returns `folder`.

    With `regions` it reads examples: a place is a pixel, and its vector the pixel's colour, or of a panoptic one the
    queries' colours.
    """
    folder.mkdir(parents=True)
    graph = _segmenter()
    if panoptic:
        _add_queries(graph)
    if regions:
        spec = _add_regions(graph, panoptic)
        (folder / EXAMPLES).write_text(spec.to_json(), encoding="utf-8")
    files = (SEGMENTER, TEXT_ENCODER, TOKENIZER, *((EXAMPLES,) if regions else ()))
    _save(graph, folder / SEGMENTER)
    _tokenizer().save(str(folder / TOKENIZER))
    _save(_text_encoder(_tokenizer().get_vocab()), folder / TEXT_ENCODER)
    manifest = Manifest(
        **{
            "name": "tiny",
            "created_by": "tests",
            "graph": GraphSpec(
                inputs=(
                    TensorSpec("image", "uint8", (1, HEIGHT, WIDTH, 3)),
                    TensorSpec("text_embeddings", "float32", ("K", "S", 3)),
                ),
                outputs=(
                    TensorSpec("labels", "int32", (1, HEIGHT, WIDTH)),
                    TensorSpec("confidence", "float32", (1, HEIGHT, WIDTH)),
                    *(_QUERY_OUTPUTS if panoptic else ()),
                ),
                max_classes=MAX_CLASSES,
                masks="exact",
                msda="gridsample",
                decoder_layers=1,
                stride=1,
                task="panoptic" if panoptic else "semantic",
            ),
            "text": TextSpec(
                encoder="minilm",
                dim=3,
                context_length=CONTEXT,
                cleaning="none",
                templates=("{}", "a photo of {}"),
                inputs=(
                    TensorSpec("input_ids", "int64", ("N", "L")),
                    TensorSpec("attention_mask", "int64", ("N", "L")),
                ),
                output="vectors",
            ),
            "training_vocabulary": TRAINING,
            "opset": 17,
            "precisions": {"fp32": SEGMENTER},
            "digests": {name: sha256(folder / name) for name in files},
            **changes,
        }
    )
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return folder


def _tokenizer() -> Tokenizer:
    words = ["[PAD]", "[UNK]", "a", "photo", "of", *COLOURS]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(CONTEXT)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return tokenizer


def _save(graph: onnx.GraphProto, path: Path) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _constant(name: str, value: Any, dtype: Any = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


def _text_encoder(vocabulary: dict[str, int]) -> onnx.GraphProto:
    """Sum of the words' colours; padding is masked as a real encoder masks it."""
    table = np.zeros((len(vocabulary), 3), np.float32)
    for word, colour in COLOURS.items():
        table[vocabulary[word]] = colour
    node = helper.make_node
    return helper.make_graph(
        [
            node("Gather", ["table", "input_ids"], ["words"]),
            node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            node("Unsqueeze", ["mask", "last"], ["mask_column"]),
            node("Mul", ["words", "mask_column"], ["masked"]),
            node("ReduceSum", ["masked", "tokens"], ["vectors"], keepdims=0),
        ],
        "text_encoder",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["N", "L"]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["N", "L"]),
        ],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["N", 3])],
        [_constant("table", table, np.float32), _constant("last", [-1]), _constant("tokens", [1])],
    )


def _segmenter() -> onnx.GraphProto:
    """Cosine of pixel and name, maximum over names, softmax over classes. A zero row gets -1e4: it can never win."""
    node = helper.make_node
    return helper.make_graph(
        [
            node("Cast", ["image"], ["bgr"], to=TensorProto.FLOAT),
            node("Reshape", ["bgr", "pixels_shape"], ["pixels"]),
            node("ReduceL2", ["pixels"], ["pixel_length"], axes=[1], keepdims=1),
            node("Max", ["pixel_length", "tiny"], ["pixel_length_safe"]),
            node("Div", ["pixels", "pixel_length_safe"], ["pixel_unit"]),
            node("ReduceL2", ["text_embeddings"], ["name_length"], axes=[2], keepdims=1),
            node("Max", ["name_length", "tiny"], ["name_length_safe"]),
            node("Div", ["text_embeddings", "name_length_safe"], ["name_unit"]),
            node("Greater", ["name_length", "tiny"], ["is_name"]),
            node("Transpose", ["pixel_unit"], ["pixel_columns"], perm=[1, 0]),
            node("MatMul", ["name_unit", "pixel_columns"], ["cosine"]),  # (K, S, pixels)
            node("Mul", ["cosine", "temperature"], ["logits"]),
            node("Where", ["is_name", "logits", "never"], ["name_logits"]),
            node("ReduceMax", ["name_logits"], ["pixel_logits"], axes=[1], keepdims=0),
            node("Softmax", ["pixel_logits"], ["scores"], axis=0),
            node("ArgMax", ["scores"], ["winner"], axis=0, keepdims=0),
            node("ReduceMax", ["scores"], ["best"], axes=[0], keepdims=0),
            node("Cast", ["winner"], ["winner_int32"], to=TensorProto.INT32),
            node("Reshape", ["winner_int32", "map_shape"], ["labels"]),
            node("Reshape", ["best", "map_shape"], ["confidence"]),
        ],
        "segmenter",
        [
            helper.make_tensor_value_info("image", TensorProto.UINT8, [1, HEIGHT, WIDTH, 3]),
            helper.make_tensor_value_info("text_embeddings", TensorProto.FLOAT, ["K", "S", 3]),
        ],
        [
            helper.make_tensor_value_info("labels", TensorProto.INT32, [1, HEIGHT, WIDTH]),
            helper.make_tensor_value_info("confidence", TensorProto.FLOAT, [1, HEIGHT, WIDTH]),
        ],
        [
            _constant("pixels_shape", [HEIGHT * WIDTH, 3]),
            _constant("map_shape", [1, HEIGHT, WIDTH]),
            _constant("tiny", 1e-6, np.float32),
            _constant("temperature", _TEMPERATURE, np.float32),
            _constant("never", -1e4, np.float32),
        ],
    )


def _add_queries(graph: onnx.GraphProto) -> None:
    """Masks at stride 4: +9 where a pixel has the query's colour on the query's side, at most -9 elsewhere."""
    node = helper.make_node
    height, width = HEIGHT // 4, WIDTH // 4
    sides = np.full((1, _QUERIES, height, width), -18.0)
    sides[:, :3, :, : width // 2] = 0
    sides[:, 3:, :, width // 2 :] = 0
    graph.node.extend(
        [
            node("Reshape", ["pixel_unit", "image_shape"], ["unit_image"]),
            node("Slice", ["unit_image", "starts", "ends", "axes", "steps"], ["coarse"]),
            node("MatMul", ["coarse", "query_colours"], ["likeness"]),  # (1, h, w, Q)
            node("Transpose", ["likeness"], ["likeness_first"], perm=[0, 3, 1, 2]),
            node("Sub", ["likeness_first", "alike"], ["excess"]),
            node("Mul", ["excess", "sharpness"], ["anywhere"]),
            node("Add", ["anywhere", "sides"], ["mask_logits"]),
            node("MatMul", ["name_unit", "query_colours"], ["query_cosine"]),  # (K, S, Q)
            node("Mul", ["query_cosine", "temperature"], ["query_names"]),
            node("Where", ["is_name", "query_names", "never"], ["query_known"]),
            node("ReduceMax", ["query_known"], ["query_classes"], axes=[1], keepdims=0),
            node("Transpose", ["query_classes"], ["class_columns"], perm=[1, 0]),
            node("Unsqueeze", ["class_columns", "first"], ["class_batch"]),
            node("Concat", ["class_batch", "void"], ["class_logits"], axis=2),
        ]
    )
    graph.output.extend(
        helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, spec.shape) for spec in _QUERY_OUTPUTS
    )
    graph.initializer.extend(
        [
            _constant("image_shape", [1, HEIGHT, WIDTH, 3]),
            _constant("starts", [2, 2]),
            _constant("ends", [HEIGHT, WIDTH]),
            _constant("axes", [1, 2]),
            _constant("steps", [4, 4]),
            _constant("query_colours", np.concatenate([np.eye(3)[::-1], np.eye(3)[::-1]]).T, np.float32),
            _constant("alike", 0.85, np.float32),
            _constant("sharpness", 60.0, np.float32),
            _constant("sides", sides, np.float32),
            _constant("first", [0]),
            _constant("void", np.full((1, _QUERIES, 1), 0.8 * _TEMPERATURE), np.float32),
        ]
    )


def _add_regions(graph: onnx.GraphProto, panoptic: bool) -> RegionSpec:
    """Values inside the graph that tell the vectors of regions."""
    if panoptic:
        graph.node.append(helper.make_node("Unsqueeze", ["query_colours", "first"], ["query_columns"]))
        graph.node.append(helper.make_node("Transpose", ["query_columns"], ["region_queries_0"], perm=[0, 2, 1]))
        vectors = TensorSpec("region_queries_0", "float32", (1, _QUERIES, 3))
        return RegionSpec(queries=QueriesSpec((vectors,), (1.0,), _QUERY_OUTPUTS[0]))
    graph.node.append(helper.make_node("Reshape", ["pixel_unit", "places_shape"], ["region_places"]))
    graph.initializer.append(_constant("places_shape", [1, HEIGHT * WIDTH, 3]))
    vectors = TensorSpec("region_places", "float32", (1, HEIGHT * WIDTH, 3))
    grid, window = (HEIGHT, WIDTH), (0, 0, HEIGHT, WIDTH)
    return RegionSpec(places=PlacesSpec(vectors, channels_first=False, grid=grid, windows=(window,)))
