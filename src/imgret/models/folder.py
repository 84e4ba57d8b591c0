"""A folder as people download it, read as a model by what stands in it.

=========================== ====================================================================
layout                      files
=========================== ====================================================================
Hugging Face,               ``config.json``, ``preprocessor_config.json``, ``tokenizer.json``,
transformers.js             ``onnx/vision_model.onnx`` and ``onnx/text_model.onnx``, or one
                            ``model.onnx``; variants such as ``vision_model_fp16.onnx``
open_clip, rclip            ``visual.onnx``, ``textual.onnx``, ``open_clip_config.json``
immich                      ``visual/model.onnx``, ``visual/preprocess_cfg.json``,
                            ``textual/model.onnx``, ``textual/tokenizer.json``
Qdrant                      a folder for each tower, with ``model.onnx``
timm                        ``model.onnx`` and a ``config.json`` with ``pretrained_cfg``
=========================== ====================================================================

Nothing is ever downloaded here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgret.errors import ModelError
from imgret.models.preprocess import Preprocess
from imgret.models.processor import from_hugging_face, from_open_clip, from_timm
from imgret.models.subgraph import inputs_and_outputs
from imgret.support.json_text import loads
from imgret.types import Json

__all__ = [
    "IMAGE_OUTPUTS",
    "UNTRAINED_POOLERS",
    "VARIANTS",
    "ModelFolder",
    "TextFacts",
    "is_model_folder",
    "read_folder",
    "read_preprocess",
]

# Ends of file names, before ``.onnx``.
VARIANTS = ("fp16", "int8", "uint8", "quantized", "q4", "q4f16", "bnb4")
_VISION = ("vision_model", "visual", "image_encoder", "visual/model", "vision/model")
_TEXT = ("text_model", "textual", "text_encoder", "textual/model", "text/model")
_ONE = ("model",)
_FOLDERS = ("", "onnx/")
_PREPROCESSING: tuple[
    tuple[str, tuple[str, ...], Callable[[Mapping[str, Any]], Preprocess]], ...
] = (
    ("preprocessor_config.json", (), from_hugging_face),
    ("processor_config.json", ("image_processor",), from_hugging_face),
    ("preprocess_cfg.json", (), from_open_clip),
    ("open_clip_config.json", ("preprocess_cfg",), from_open_clip),
    ("config.json", ("pretrained_cfg",), from_timm),
)
# Outputs that are embeddings, the best first, and those of networks whose pooled one was never
# trained.
IMAGE_OUTPUTS = ("image_embeds", "image_embeddings", "image_features", "pooler_output")
_TEXTS = ("text_embeds", "text_embeddings", "text_features", "pooler_output")
UNTRAINED_POOLERS = {"vit", "deit", "beit", "data2vec-vision", "vit_mae", "vit_msn"}
_TOKENS = "last_hidden_state"
_NO_LIMIT = 100_000  # above it, tokenizer_config.json says that there is none


@dataclass(frozen=True, kw_only=True)
class TextFacts:
    """The tower that reads text.

    Attributes
    ----------
    graph : Path
    tokenizer : Path
        ``tokenizer.json``.
    outputs : tuple of str
        Names an output may have, the best first.
    length : int or None
        Most tokens of a text; None if only the graph knows.
    pad_token : str or None
    fixed : bool
        Whether every text is filled up to ``length``.
    cleaning : {"", "lower", "canonical"}
        What is done to texts first: nothing, capitals are lowered, or punctuation goes as well.
    combined : bool
        Whether the graph holds the tower for images as well.
    """

    graph: Path
    tokenizer: Path
    outputs: tuple[str, ...]
    length: int | None
    pad_token: str | None
    fixed: bool
    cleaning: str
    combined: bool


@dataclass(frozen=True, kw_only=True)
class ModelFolder:
    """What a folder holds.

    Attributes
    ----------
    path : Path
    kind : str
        ``model_type`` of ``config.json``; empty if it says none.
    graph : Path
        The tower that reads images.
    outputs : tuple of str
        Names its output may have, the best first.
    preprocess : Preprocess or None
        None if the folder does not say.
    combined : bool
        Whether the graph holds the tower for texts as well.
    text : TextFacts or None
    no_text : str
        Why there is none, as the end of a sentence.
    """

    path: Path
    kind: str
    graph: Path
    outputs: tuple[str, ...]
    preprocess: Preprocess | None
    combined: bool
    text: TextFacts | None
    no_text: str = ""


def is_model_folder(path: Path) -> bool:
    """Whether a directory holds an ONNX file where a model's would be."""
    return path.is_dir() and any(True for _ in _graphs(path, (*_VISION, *_TEXT, *_ONE)))


def read_folder(
    path: Path, *, variant: str | None = None, text_folder: Path | None = None
) -> ModelFolder:
    """Find the files of a model in its folder.

    Parameters
    ----------
    path : Path
        The folder.
    variant : str, optional
        Which of several files of a tower is used, such as ``"fp16"`` or ``"quantized"``; by
        default the one without an ending, or the only one.
    text_folder : Path, optional
        Folder of the tower for text, if that is another one.

    Raises
    ------
    ModelError
        There is no graph, or no such variant, or a file cannot be understood.
    """
    if not path.is_dir():
        raise ModelError(f"{path}: expected a folder with a model, found none there")
    config = _json(path / "config.json") or {}
    kind = str(config.get("model_type") or "")
    graph = _choose(path, _VISION, variant) or _choose(path, _ONE, variant)
    if graph is None:
        if _choose(path, _TEXT, variant) is not None:
            raise ModelError(
                f"{path}: expected a model that reads images, found one for text only; give the "
                f"folder of the image tower, and this one as text_model="
            )
        raise ModelError(
            f"{path}: expected an ONNX file (model.onnx, onnx/vision_model.onnx or visual.onnx), "
            f"found {_listing(path)}; export the model to ONNX, or download its onnx/ folder"
        )
    inputs, outputs = _sides(graph)
    combined = len(inputs) > 1 and "pixel_values" in inputs
    if not combined and set(inputs) & {"input_ids"}:
        raise ModelError(
            f"{graph}: expected a graph that reads images, found one with the inputs "
            f"{', '.join(inputs)}, which reads text; give the folder of the image tower, and this "
            f"one as text_model="
        )
    preferred = (*IMAGE_OUTPUTS, _TOKENS)
    if kind in UNTRAINED_POOLERS and _TOKENS in outputs:
        preferred = (_TOKENS, *IMAGE_OUTPUTS)
    text, no_text = _text(path, config, variant, text_folder, graph if combined else None)
    return ModelFolder(
        path=path,
        kind=kind,
        graph=graph,
        outputs=preferred,
        preprocess=read_preprocess(path, graph.parent),
        combined=combined,
        text=text,
        no_text=no_text,
    )


def _text(
    path: Path,
    config: Json,
    variant: str | None,
    other: Path | None,
    combined: Path | None,
) -> tuple[TextFacts | None, str]:
    """Return the tower for text, or the reason why there is none."""
    folder = path if other is None else other
    graph = combined
    if other is not None:
        if not other.is_dir():
            raise ModelError(f"{other}: expected the folder of a text model, found none there")
        graph = _choose(other, _TEXT, variant, or_plain=True)
        graph = graph or _choose(other, _ONE, variant, or_plain=True)
        config = _json(other / "config.json") or config
        if graph is None:
            raise ModelError(
                f"{other}: expected the ONNX file of a text model, found {_listing(other)}"
            )
    elif graph is None:
        graph = _choose(path, _TEXT, variant, or_plain=True)
    if graph is None:
        return None, f"{path} holds no graph for text (onnx/text_model.onnx or textual.onnx)"
    inside = (graph.parent, graph.parent.parent, folder)
    tokenizer = next(
        (at / "tokenizer.json" for at in inside if (at / "tokenizer.json").is_file()), None
    )
    if tokenizer is None:
        return None, (
            f"{folder} has a graph for text and no tokenizer.json; download that file of the "
            f"model, too"
        )
    settings = _json(tokenizer.parent / "tokenizer_config.json") or {}
    text = config.get("text_config") or config.get("text_cfg") or {}
    kind = str(text.get("model_type") or config.get("model_type") or "")
    lengths = (
        text.get("max_position_embeddings"),
        text.get("context_length"),
        settings.get("model_max_length"),
    )
    length = next((int(n) for n in lengths if isinstance(n, int) and 0 < n < _NO_LIMIT), None)
    if length is None and ("clip" in kind or "context_length" in text):
        length = 77
    pad = settings.get("pad_token")
    said = (text.get("tokenizer_kwargs") or {}).get("clean")
    cleaning = "canonical" if said == "canonicalize" else "lower" if said == "lower" else ""
    # SigLIP 2 was trained on texts in lower case, which its published tokenizer does not make.
    of_gemma = str(settings.get("tokenizer_class", "")).startswith(("Gemma", "Siglip2"))
    if "siglip" in kind and of_gemma and not cleaning:
        cleaning = "lower"
    return TextFacts(
        graph=graph,
        tokenizer=tokenizer,
        outputs=_TEXTS,
        length=64 if length is None and "siglip" in kind else length,
        pad_token=pad.get("content") if isinstance(pad, dict) else pad,
        fixed="siglip" in kind or "text_cfg" in config,
        cleaning=cleaning,
        combined=combined is not None,
    ), ""


def read_preprocess(*folders: Path) -> Preprocess | None:
    """Return the preprocessing that the first folder to describe one does; None if none does."""
    for folder in folders:
        for name, keys, read in _PREPROCESSING:
            facts = _json(folder / name)
            for key in keys:
                facts = facts.get(key) if isinstance(facts, dict) else None
            if not isinstance(facts, dict) or not facts:
                continue
            try:
                return read(facts)
            except ModelError as error:
                raise ModelError(f"{folder / name}: {error}") from error
    return None


def _graphs(path: Path, stems: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Yield variant and path of the graphs of these names that are there."""
    for stem in stems:
        for folder in _FOLDERS:
            for variant in ("", *VARIANTS):
                file = path / f"{folder}{stem}{f'_{variant}' if variant else ''}.onnx"
                if file.is_file():
                    yield variant, file


def _choose(
    path: Path, stems: tuple[str, ...], variant: str | None, *, or_plain: bool = False
) -> Path | None:
    found: dict[str, Path] = {}
    for name, file in _graphs(path, stems):
        found.setdefault(name, file)
    if not found:
        return None
    if variant is not None:
        if variant not in found and or_plain and "" in found:
            return found[""]
        if variant not in found:
            there = ", ".join(repr(name) if name else "the plain one" for name in found)
            raise ModelError(f"{path}: variant: expected one of {there}, found {variant!r}")
        return found[variant]
    if "" in found:
        return found[""]
    if len(found) > 1:
        raise ModelError(
            f"{path}: expected a choice among {', '.join(map(repr, found))}, found none; give "
            f"variant="
        )
    return next(iter(found.values()))


def _sides(graph: Path) -> tuple[list[str], list[str]]:
    try:
        return inputs_and_outputs(graph.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelError(f"{graph}: expected an ONNX file, found damage or other data") from error


def _json(file: Path) -> Json | None:
    try:
        content = loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: expected JSON, found {error}") from error
    return content if isinstance(content, dict) else None


def _listing(path: Path) -> str:
    names = sorted(file.name for file in path.iterdir())
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return shown or "an empty folder"
