"""`ovs-export --clip`: weights to a bundle that the runtime opens, on a small CLIP."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import open_clip
import pytest
import torch
from support.clip import SMALL, open_clip_model, small_clip

from ovs_edge.bundle.bundle import Bundle
from ovs_edge.bundle.errors import UsageError
from ovs_edge.bundle.manifest import SEGMENTER
from ovs_edge.export.cli import main
from ovs_edge.export.clip.export import clip_onnx, export_clip_bundle
from ovs_edge.export.clip.options import ClipExportRequest
from ovs_edge.export.clip.parity import ClipReference
from ovs_edge.export.command import ExportCommandOptions, LastBlock, MaskOrder
from ovs_edge.export.onnx_writer import save
from ovs_edge.export.parity_photos import photo_inputs
from ovs_edge.runtime.examples.region_spec import EXAMPLES, RegionSpec
from ovs_edge.runtime.segmenter import Segmenter
from ovs_edge.segmenter.clip_dense.config import DenseRecipe, ScoreRefinement
from ovs_edge.segmenter.clip_dense.windows import WindowGrid

SIZE = (240, 256)  # height, width: four windows


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of a small model that open_clip knows, and two prompts in place of eighty."""
    monkeypatch.setattr(open_clip, "list_models", lambda: ["small"])
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: SMALL)
    monkeypatch.setattr(open_clip, "OPENAI_IMAGENET_TEMPLATES", open_clip.OPENAI_IMAGENET_TEMPLATES[:2])
    path = tmp_path / "small.pt"
    torch.save(open_clip_model().state_dict(), path)
    return path


@pytest.mark.slow
def test_bundle(weights: Path, tmp_path: Path) -> None:
    """The default recipe with windows: parity is judged by the export itself, then the runtime is asked."""
    notes: list[str] = []
    request = ClipExportRequest(SIZE, background=(("sky", "cloud"), ("wall",)), max_classes=20)
    manifest = export_clip_bundle(str(weights), tmp_path / "clip.ovs", request, note=notes.append)
    assert notes
    assert "QuickGELU was assumed" in notes[0]
    assert manifest.background_classes == (("sky", "cloud"), ("wall",))
    assert manifest.training_vocabulary == ()
    assert manifest.graph.clip_dense is not None
    assert manifest.graph.clip_dense.recipe == "sc-clip"
    assert [(row["classes"], row["names"]) for row in manifest.parity["segmenter"]] == [
        (1, 1), (1, 4), (2, 1), (2, 4), (20, 1), (20, 4), (2, 2)
    ]  # fmt: skip
    assert Bundle.open(tmp_path / "clip.ovs").manifest.to_json() == manifest.to_json()
    text = (tmp_path / "clip.ovs" / EXAMPLES).read_text(encoding="utf-8")
    places = RegionSpec.from_json(text, EXAMPLES, manifest.text.dim).places
    assert places is not None
    assert (len(places.windows), places.vectors.shape) == (4, (4, 14 * 14, 48))
    values = {value.name for value in onnx.load(str(tmp_path / "clip.ovs" / SEGMENTER)).graph.value_info}
    assert places.vectors.name in values
    with Segmenter.load(tmp_path / "clip.ovs") as segmenter:
        assert segmenter.threshold == 0.1
        active = segmenter.set_classes("cat,person|man")
        assert active.vocabulary.labels[2:] == ("(background)", "(background)")
        prediction = segmenter.predict(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8))
        assert prediction.labels.shape == (90, 120)
        assert prediction.labels.max() <= 1
        # Shown instead of named: the row is what the network compares patches with, whatever its weights.
        picture = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
        read = segmenter.add_example("thing", picture, box=(0, 0, 60, 90))
        assert [entry.label for entry in segmenter.classes] == ["cat", "person", "thing"]
        (row,) = segmenter.shown.all()[0].rows
        np.testing.assert_allclose(row, read.vector, atol=1e-5)
        assert segmenter.shown.all()[0].examples[0].fitted is None  # without statistics nothing is fitted
        assert (segmenter.predict(picture).labels == 2).any()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"recipe": DenseRecipe.naclip, "windows": False},
        {"recipe": DenseRecipe.naclip, "refinement": ScoreRefinement.guided},
        {"recipe": DenseRecipe.naclip, "windows": False, "refinement": ScoreRefinement.pamr, "temperature": 50.0},
    ],
)
def test_graphs(options: dict[str, Any], tmp_path: Path) -> None:
    """Every part of the graph against the recipe written out plainly, on a portrait; some classes have no name."""
    import onnxruntime

    model, size = small_clip(**options), (256, 240)
    save(clip_onnx(model, ClipExportRequest(size, **options)), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    photos = photo_inputs(None, size)[:1]
    reference = ClipReference(model, size, photos)
    vectors = np.random.default_rng(1).standard_normal((5, 3, 48)).astype(np.float32)
    vectors[1:, 2] = 0
    vectors[4] = 0
    labels, confidence = session.run(None, {"image": photos[0], "text_embeddings": vectors})
    expected, expected_confidence = reference(0, vectors)
    assert (labels == expected).mean() >= 0.999
    assert labels.max() <= 3
    assert np.abs(confidence - expected_confidence).max() <= 1e-3
    padded = np.concatenate((vectors, np.zeros((3, 3, 48), np.float32)))
    again, confidence_again = session.run(None, {"image": photos[0], "text_embeddings": padded})
    assert (again == labels).mean() >= 0.9999
    np.testing.assert_allclose(confidence_again, confidence, atol=1e-5)


def test_command(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["ovs-export", *arguments])
        code: object = 0
        try:
            main()
        except SystemExit as exit:
            code = exit.code
        out, err = capfd.readouterr()
        return code, out, err

    size = ["--size", "48x64", "--windows", "none", "--dense", "naclip", "--max-classes", "3"]
    code, out, err = run("--clip", f"small:{weights}", *size, "--background", "sky|cloud")
    assert code == 0, err
    assert "naclip, one pass, temperature 40" in out
    assert "ONNX Runtime against torch" in out
    assert Bundle.open("small.ovs").manifest.background == (("sky", "cloud"),)
    for arguments, says in (
        (["--clip", str(weights), "--size", "100x64"], "multiples of the model's patch, 16 pixels"),
        (["--clip", str(weights), "--masks", "fast"], "--masks has no meaning with --clip"),
        (["model.pt", "--dense", "naclip"], "--dense belongs to --clip"),
        (["model.pt", "--clip", "ViT-B-16/openai"], "one of both"),
        ([], "one of both"),
        # Before anything is read or downloaded:
        (["--clip", "absent.pt", "--temperature", "0"], "--temperature is 0"),
        (["--clip", "absent.pt", "--max-classes", "0"], "--max-classes is 0"),
        (["--clip", "absent.pt", "--background", "|"], "--background is empty"),
        (["--clip", "absent.pt", "-o", str(weights)], "exists and is not a bundle"),
    ):
        code, _, err = run(*arguments)
        assert code == 2 and err.count("\n") == 1 and says in err, err


@pytest.mark.parametrize(
    ("clip", "name"),
    [
        ("ViT-B-16/openai", "ViT-B-16-openai.ovs"),
        ("ViT-L-14:/some/where/weights.safetensors", "weights.ovs"),
        ("weights/laion.pt", "laion.ovs"),
    ],
)
def test_default_name(clip: str, name: str) -> None:
    assert str(ExportCommandOptions(clip=clip).target) == name


def test_options_of_one_kind() -> None:
    with pytest.raises(UsageError, match="--dense belongs"):
        ExportCommandOptions(checkpoint=Path("model.pt"), dense=LastBlock.naclip)
    with pytest.raises(UsageError, match="--masks"):
        ExportCommandOptions(clip="ViT-B-16/openai", masks=MaskOrder.fast)


@pytest.mark.parametrize(
    ("patch", "windows", "size"),
    [(16, True, (336, 448)), (14, False, (336, 448)), (32, True, (336, 448)), (32, False, (352, 448))],
)
def test_default_size(patch: int, windows: bool, size: tuple[int, int]) -> None:
    assert ClipExportRequest(windows=windows).decided(patch).size == size


def test_sizes_that_patches_do_not_fill() -> None:
    assert ClipExportRequest((350, 450)).decided(32).size == (350, 450)  # windows of 224 pixels
    for request in (ClipExportRequest((350, 450), windows=False), ClipExportRequest((200, 450))):
        with pytest.raises(UsageError, match="multiples of the model's patch, 32 pixels"):
            request.decided(32)


def test_a_single_patch_has_no_neighbours() -> None:
    with pytest.raises(UsageError, match="from 32 to 4096; 32 is the nearest to 16"):
        ClipExportRequest((16, 16), windows=False).decided(16)


def test_no_background() -> None:
    assert ExportCommandOptions(clip="ViT-B-16/openai", background="none").clip_request().background == ()


def test_windows_of_the_small_export() -> None:
    assert WindowGrid.sliding(SIZE, 224, 112).count == 4
