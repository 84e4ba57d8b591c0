"""Make the small models that tests read: folders as people download them, and reference vectors.

    pip install torch transformers tokenizers onnx scikit-image scikit-learn onnxconverter-common
    python tools/export_tiny_models.py tests/data/models

The networks are CLIP, SigLIP, DINOv2 and ViT of two layers with random weights, exported as
`optimum` and transformers.js do. The vectors are those of `transformers` itself, from its own
processors, for images that travel in test dependencies and for a few texts.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "models"))
from reference_images import reference_images

# For builds of torchvision without kernels.
_library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
try:
    import torchvision  # noqa: F401
except RuntimeError:
    for _name in ("nms", "qnms"):
        _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import tokenizers as tk
import transformers as tr
from onnxconverter_common import float16
from onnxruntime.quantization import QuantType, quantize_dynamic
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

SIZE, PATCH, WIDTH, LAYERS, HEADS, DIM = 64, 16, 48, 2, 2, 24
TOWER = {
    "hidden_size": WIDTH,
    "intermediate_size": 2 * WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
}
TEXTS = [
    "a red rose",
    "a photo of a tulip in the snow",
    "Ein gelber Löwenzahn auf der Wiese",
    "",
    "naïve café, 東京 🌷",
    "the quick brown fox jumps over the lazy dog " * 30,
]
CORPUS = [
    "a photo of a flower",
    "a red rose in the garden",
    "the quick brown fox jumps over the lazy dog",
    "a tulip, a daisy and a sunflower at night",
    "snow on the mountains",
    "two dogs on the beach",
    "an old car in the street",
    "people at a table with food",
    "a cat that sleeps on a chair",
]


def main(root: Path) -> None:
    """Write every folder and the reference vectors."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    reference = {
        **write_clip(root / "clip"),
        **write_siglip(root / "siglip"),
        **write_dinov2(root / "dinov2"),
        **write_vit(root / "vit"),
    }
    write_combined_clip(root / "clip", root / "clip-combined")
    write_external(root / "dinov2", root / "dinov2-external")
    write_variants(root / "clip" / "onnx")
    arrays: dict[str, Any] = {name: array.astype(np.float32) for name, array in reference.items()}
    arrays["texts"] = np.array(json.dumps(TEXTS, ensure_ascii=False))
    np.savez_compressed(root / "reference.npz", **arrays)
    for file in sorted(root.rglob("*")):
        if file.is_file():
            print(f"{file.stat().st_size:>8} {file.relative_to(root)}")


def write_clip(folder: Path) -> dict[str, np.ndarray]:
    """Write CLIP as two towers; return what `transformers` says of images and texts."""
    clip, words = clip_model()
    words.save_pretrained(folder)
    clip.config.save_pretrained(folder)
    vision = Part(clip.get_image_features, ["pixel_values"], ["pooler_output", "last_hidden_state"])
    text = Part(
        clip.get_text_features,
        ["input_ids", "attention_mask"],
        ["pooler_output", "last_hidden_state"],
    )
    export(
        vision, pixels(), folder / "onnx/vision_model.onnx", ["image_embeds", "last_hidden_state"]
    )
    export(
        text, ids_of(words), folder / "onnx/text_model.onnx", ["text_embeds", "last_hidden_state"]
    )
    settings = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
    tr.CLIPImageProcessor(**settings).save_pretrained(folder)
    given = words(TEXTS, padding=True, truncation=True, return_tensors="pt")
    return {
        "clip/image/fast": told(vision, tr.CLIPImageProcessor(**settings)),
        "clip/image/pil": told(vision, CLIPImageProcessorPil(**settings)),
        "clip/text": first(text, given["input_ids"], given["attention_mask"]),
    }


def write_combined_clip(source: Path, folder: Path) -> None:
    """Write CLIP as one graph with three inputs."""
    clip, words = clip_model()
    outputs = ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"]
    names = ["input_ids", "pixel_values", "attention_mask"]
    given = {**ids_of(words), **pixels()}
    export(
        Part(clip, names, outputs),
        {name: given[name] for name in names},
        folder / "model.onnx",
        outputs,
    )
    for file in source.glob("*.json"):
        shutil.copy(file, folder / file.name)


def write_siglip(folder: Path) -> dict[str, np.ndarray]:
    """Write SigLIP as two towers; its text is padded to 64, and has no mask."""
    torch.manual_seed(1)
    tokenizer = siglip_tokenizer()
    siglip = tr.SiglipModel(
        tr.SiglipConfig(
            text_config={
                **TOWER,
                "vocab_size": tokenizer.get_vocab_size(),
                "max_position_embeddings": 64,
                "pad_token_id": 0,
                "projection_size": WIDTH,
            },
            vision_config={**TOWER, "image_size": SIZE, "patch_size": PATCH},
        )
    )
    spread(siglip)
    words = tr.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        model_max_length=64,
    )
    words.save_pretrained(folder)
    siglip.config.save_pretrained(folder)
    outputs = ["last_hidden_state", "pooler_output"]
    vision = Part(siglip.vision_model, ["pixel_values"], outputs)
    text = Part(siglip.text_model, ["input_ids"], outputs)
    export(vision, pixels(), folder / "onnx/vision_model.onnx", outputs)
    padded = words(["a rose", "roses"], padding="max_length", return_tensors="pt")["input_ids"]
    export(text, {"input_ids": padded}, folder / "onnx/text_model.onnx", outputs)
    settings = {"size": {"height": SIZE, "width": SIZE}}
    tr.SiglipImageProcessor(**settings).save_pretrained(folder)
    given = words(TEXTS, padding="max_length", truncation=True, return_tensors="pt")
    return {
        "siglip/image/fast": told(vision, tr.SiglipImageProcessor(**settings), 1),
        "siglip/image/pil": told(vision, SiglipImageProcessorPil(**settings), 1),
        "siglip/text": first(text, given["input_ids"], at=1),
    }


def write_dinov2(folder: Path) -> dict[str, np.ndarray]:
    """Write DINOv2, whose export gives every token."""
    torch.manual_seed(2)
    sizes = {name: size for name, size in TOWER.items() if name != "intermediate_size"}
    config = tr.Dinov2Config(**sizes, mlp_ratio=2, image_size=SIZE, patch_size=PATCH)
    dino = tr.Dinov2Model(config)
    spread(dino)
    dino.config.save_pretrained(folder)
    tokens = Part(dino, ["pixel_values"], ["last_hidden_state"])
    export(tokens, pixels(), folder / "onnx/model.onnx", ["last_hidden_state"])
    settings = {
        "size": {"shortest_edge": 73},
        "crop_size": {"height": SIZE, "width": SIZE},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }
    tr.BitImageProcessor(**settings).save_pretrained(folder)
    fast = told(tokens, tr.BitImageProcessor(**settings))
    return {
        "dinov2/image/fast": fast[:, 0],
        "dinov2/mean": fast.mean(axis=1),
        "dinov2/image/pil": told(tokens, BitImageProcessorPil(**settings))[:, 0],
    }


def write_external(source: Path, folder: Path) -> None:
    """Write DINOv2 as `torch.onnx.export` does by default: weights in a file beside the graph."""
    folder.mkdir()
    for file in source.glob("*.json"):
        shutil.copy(file, folder / file.name)
    onnx.save(
        onnx.load(source / "onnx" / "model.onnx"),
        folder / "model.onnx",
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=64,
    )


def write_vit(folder: Path) -> dict[str, np.ndarray]:
    """Write ViT as one file at the top of its folder."""
    torch.manual_seed(3)
    config = tr.ViTConfig(**TOWER, image_size=SIZE, patch_size=PATCH)
    vit = tr.ViTModel(config, add_pooling_layer=False)
    spread(vit)
    vit.config.save_pretrained(folder)
    tokens = Part(vit, ["pixel_values"], ["last_hidden_state"])
    export(tokens, pixels(), folder / "model.onnx", ["last_hidden_state"])
    settings = {"size": {"height": SIZE, "width": SIZE}}
    tr.ViTImageProcessor(**settings).save_pretrained(folder)
    return {
        "vit/image/fast": told(tokens, tr.ViTImageProcessor(**settings))[:, 0],
        "vit/image/pil": told(tokens, ViTImageProcessorPil(**settings))[:, 0],
    }


def write_variants(folder: Path) -> None:
    """Write the image tower of CLIP in half precision, and in eight bits."""
    path = folder / "vision_model.onnx"
    half = float16.convert_float_to_float16(onnx.load(path), keep_io_types=False)
    for node in half.graph.node:  # which the converter leaves as they were
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == onnx.TensorProto.FLOAT:
                attribute.i = onnx.TensorProto.FLOAT16
    onnx.save(half, folder / "vision_model_fp16.onnx")
    quantize_dynamic(path, folder / "vision_model_quantized.onnx", weight_type=QuantType.QUInt8)


def clip_model() -> tuple[Any, Any]:
    """Make CLIP and its tokenizer."""
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    start, end = (tokenizer.token_to_id(t) for t in ("<|startoftext|>", "<|endoftext|>"))
    clip = tr.CLIPModel(
        tr.CLIPConfig(
            text_config={
                **TOWER,
                "vocab_size": tokenizer.get_vocab_size(),
                "max_position_embeddings": 77,
                "eos_token_id": end,
                "bos_token_id": start,
                "pad_token_id": end,
            },
            vision_config={**TOWER, "image_size": SIZE, "patch_size": PATCH},
            projection_dim=DIM,
        )
    )
    spread(clip)
    words = tr.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=77,
    )
    return clip, words


def clip_tokenizer() -> tk.Tokenizer:
    """Train a byte-level BPE with the ends of words marked, as CLIP's."""
    tokenizer = tk.Tokenizer(tk.models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    spaces = tk.normalizers.Replace(tk.Regex(r"\s+"), " ")
    tokenizer.normalizer = tk.normalizers.Sequence(
        [tk.normalizers.NFC(), spaces, tk.normalizers.Lowercase()]
    )
    apart = tk.Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    tokenizer.pre_tokenizer = tk.pre_tokenizers.Sequence(
        [
            tk.pre_tokenizers.Split(apart, behavior="removed", invert=True),
            tk.pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = tk.decoders.ByteLevel()
    trainer = tk.trainers.BpeTrainer(
        vocab_size=600,
        end_of_word_suffix="</w>",
        show_progress=False,
        initial_alphabet=tk.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|startoftext|>", "<|endoftext|>"],
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    tokenizer.post_processor = tk.processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[
            (token, tokenizer.token_to_id(token)) for token in ("<|startoftext|>", "<|endoftext|>")
        ],
    )
    return tokenizer


def siglip_tokenizer() -> tk.Tokenizer:
    """Train a unigram model that lowers case and ends with </s>, as SigLIP's."""
    tokenizer = tk.Tokenizer(tk.models.Unigram())
    tokenizer.normalizer = tk.normalizers.Sequence(
        [tk.normalizers.NFKC(), tk.normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = tk.pre_tokenizers.Metaspace()
    tokenizer.decoder = tk.decoders.Metaspace()
    trainer = tk.trainers.UnigramTrainer(
        vocab_size=300,
        show_progress=False,
        unk_token="<unk>",
        special_tokens=["<pad>", "</s>", "<unk>"],
    )
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    tokenizer.post_processor = tk.processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return tokenizer


class Part(torch.nn.Module):
    """Calls a function of a model with named inputs, and returns some of what it gives."""

    def __init__(self, model: Any, names: list[str], outputs: list[str]) -> None:
        super().__init__()
        self.model, self.names, self.outputs = model, names, outputs
        # a function alone has no weights that an export would find
        self.owner = getattr(model, "__self__", None)

    def forward(self, *given: torch.Tensor) -> Any:
        """Return the outputs, in their order."""
        found = self.model(**dict(zip(self.names, given, strict=True)))
        return tuple(getattr(found, name) for name in self.outputs)


def spread(model: torch.nn.Module) -> None:
    """Draw larger weights than a network starts with, so that images differ visibly."""
    model.eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data = torch.randn_like(parameter) * 0.15


def pixels() -> dict[str, torch.Tensor]:
    """Return an input to trace an image tower with."""
    return {"pixel_values": torch.rand(2, 3, SIZE, SIZE)}


def ids_of(words: Any) -> dict[str, torch.Tensor]:
    """Return inputs to trace a text tower with."""
    given = words(["a rose", "two roses in the snow"], padding=True, return_tensors="pt")
    return {name: given[name] for name in ("input_ids", "attention_mask")}


def export(
    module: torch.nn.Module, given: dict[str, torch.Tensor], path: Path, outputs: list[str]
) -> None:
    """Write one graph with its weights inside; batch and text may be of any length."""
    path.parent.mkdir(parents=True, exist_ok=True)
    axes = {name: {0: "batch"} for name in [*given, *outputs]}
    for name in ("input_ids", "attention_mask"):
        if name in given:
            axes[name] = {0: "batch", 1: "sequence"}
    torch.onnx.export(
        module.eval(),
        tuple(given.values()),
        str(path),
        input_names=list(given),
        output_names=outputs,
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )


def told(module: torch.nn.Module, processor: Any, at: int = 0) -> np.ndarray:
    """Return what a network says of the reference images, as a processor prepares them."""
    pictures = [Image.fromarray(image) for image in reference_images().values()]
    return first(module, processor(pictures, return_tensors="pt")["pixel_values"], at=at)


def first(module: torch.nn.Module, *given: torch.Tensor, at: int = 0) -> np.ndarray:
    """Return one output of a network."""
    with torch.no_grad():
        found: np.ndarray = module(*given)[at].numpy()
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
