"""Models to download from Hugging Face, by name; besides `imgret.datasets`, nothing else downloads.

Nothing here runs unless it is called: `imgret models get`, or `look` and `fetch`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgret.errors import InvalidInputError, MissingExtraError, ModelError, UnknownNameError
from imgret.models.folder import VARIANTS
from imgret.models.home import models_home

__all__ = ["KNOWN", "Download", "KnownModel", "fetch", "look"]

_RECORD = "imgret.json"
_BESIDE = (
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "preprocess_cfg.json",
    "open_clip_config.json",
)
_TOWERS = (
    ("onnx/vision_model", "onnx/text_model"),
    ("vision_model", "text_model"),
    ("visual", "textual"),
    ("visual/model", "textual/model"),
    ("onnx/model",),
    ("model",),
)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """A model that is known by a short name.

    Attributes
    ----------
    repository : str
        On Hugging Face.
    dim : int
        Length of its embeddings.
    reads_text : bool
    licence : str
        SPDX expression, or what its publisher calls it.
    figure, source : str
        A published figure, and where it stands.
    """

    repository: str
    dim: int
    reads_text: bool
    licence: str
    figure: str
    source: str


_CLIP = 'A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"'
_DINO = 'M. Oquab et al., "DINOv2: Learning Robust Visual Features without Supervision", 2023'
KNOWN: dict[str, KnownModel] = {
    "clip-vit-base-patch32": KnownModel(
        repository="Xenova/clip-vit-base-patch32",
        dim=512,
        reads_text=True,
        licence="MIT",
        figure="ImageNet zero-shot top-1 63.2 %",
        source=f"{_CLIP}, 2021",
    ),
    "clip-vit-large-patch14": KnownModel(
        repository="Xenova/clip-vit-large-patch14",
        dim=768,
        reads_text=True,
        licence="MIT",
        figure="ImageNet zero-shot top-1 75.3 %",
        source=f"{_CLIP}, 2021",
    ),
    "siglip2-base-patch16-224": KnownModel(
        repository="onnx-community/siglip2-base-patch16-224-ONNX",
        dim=768,
        reads_text=True,
        licence="Apache-2.0",
        figure="ImageNet zero-shot top-1 78.2 %",
        source='M. Tschannen et al., "SigLIP 2: Multilingual Vision-Language Encoders", 2025',
    ),
    "dinov2-small": KnownModel(
        repository="onnx-community/dinov2-small",
        dim=384,
        reads_text=False,
        licence="Apache-2.0",
        figure="ImageNet k-NN top-1 79.0 %",
        source=_DINO,
    ),
    "dinov2-base": KnownModel(
        repository="onnx-community/dinov2-base",
        dim=768,
        reads_text=False,
        licence="Apache-2.0",
        figure="ImageNet k-NN top-1 82.1 %",
        source=_DINO,
    ),
    "mobileclip-s0": KnownModel(
        repository="Xenova/mobileclip_s0",
        dim=512,
        reads_text=True,
        licence="Apple's, for research only (apple-amlr)",
        figure="ImageNet zero-shot top-1 67.8 %",
        source='P. Vasu et al., "MobileCLIP: Fast Image-Text Models", 2024',
    ),
}


@dataclass(frozen=True, kw_only=True)
class Download:
    """Files of a repository that will be fetched.

    Attributes
    ----------
    name : str
        Name of the folder.
    repository, revision : str
        The revision is a commit.
    files : dict of str to int
        Sizes in bytes.
    folder : Path
        Where the files go.
    licence : str
    """

    name: str
    repository: str
    revision: str
    files: dict[str, int]
    folder: Path
    licence: str

    @property
    def total(self) -> int:
        """Bytes of all files together."""
        return sum(self.files.values())


def look(
    model: str,
    *,
    variant: str | None = None,
    revision: str | None = None,
    folder: Path | None = None,
) -> Download:
    """Ask the hub what a model consists of; nothing is downloaded yet.

    Parameters
    ----------
    model : str
        A name in `KNOWN`, or ``"hf:owner/name"``.
    variant : str, optional
        Which of several files is fetched, such as ``"fp16"`` or ``"quantized"``.
    revision : str, optional
        Branch, tag or commit; by default the newest.
    folder : Path, optional
        Where the files go; by default a folder of the model's name in `models_home`.

    Raises
    ------
    UnknownNameError
        There is no such name.
    MissingExtraError
        `huggingface_hub` is not installed.
    ModelError
        The hub cannot be reached, or the repository has no ONNX files of the variant.
    """
    name, repository, licence = _named(model)
    if variant is not None and variant not in VARIANTS:
        expected = ", ".join(map(repr, VARIANTS))
        raise InvalidInputError(f"variant: expected one of {expected}, found {variant!r}")
    api = _hub().HfApi(endpoint=_endpoint())
    info = _asked(
        repository,
        lambda: api.model_info(repository, revision=revision, files_metadata=True),
    )
    sizes = {each.rfilename: int(each.size or 0) for each in info.siblings or ()}
    suffix = "" if variant is None else f"_{variant}"
    wanted: list[str] = []
    for towers in _TOWERS:
        there = [f"{tower}{suffix}.onnx" for tower in towers if f"{tower}{suffix}.onnx" in sizes]
        if f"{towers[0]}{suffix}.onnx" in there:
            wanted = there
            break
    if not wanted:
        graphs = sorted(file for file in sizes if file.endswith(".onnx"))
        raise ModelError(
            f"{repository}: expected ONNX files{f' of variant {variant!r}' if variant else ''}, "
            f"found {', '.join(graphs[:8]) or 'none'}; look for a repository with an onnx/ folder"
        )
    # Weights in files beside the graph: model.onnx_data, model.onnx.data, model.onnx_data_1.
    wanted += [
        file
        for file in sizes
        if any(re.fullmatch(rf"{re.escape(graph)}[._]data(_\d+)?", file) for graph in wanted)
    ]
    folders = {str(Path(file).parent) for file in wanted} - {"."}
    wanted += [file for file in _BESIDE if file in sizes]
    wanted += [
        f"{at}/{file}" for at in sorted(folders) for file in _BESIDE if f"{at}/{file}" in sizes
    ]
    return Download(
        name=name,
        repository=repository,
        revision=str(info.sha),
        files={file: sizes[file] for file in wanted},
        folder=models_home() / name if folder is None else folder,
        licence=licence or _licence(info),
    )


def fetch(download: Download) -> Path:
    """Download the files, going on where an earlier try was broken off; return the folder.

    The revision, and the sha256 of each file, are kept in ``imgret.json`` in the folder.

    Raises
    ------
    ModelError
        The hub cannot be reached, or the disk is full.
    """
    hub = _hub()
    download.folder.mkdir(parents=True, exist_ok=True)
    digests = {}
    for file in download.files:
        path = _asked(
            download.repository,
            lambda file=file: hub.hf_hub_download(  # type: ignore[misc]  # a new one each time
                download.repository,
                file,
                revision=download.revision,
                local_dir=download.folder,
                endpoint=_endpoint(),
            ),
        )
        with Path(path).open("rb") as opened:
            digests[file] = hashlib.file_digest(opened, "sha256").hexdigest()
    record = {
        "repository": download.repository,
        "revision": download.revision,
        "licence": download.licence,
        "sha256": digests,
    }
    text = json.dumps(record, indent=2) + "\n"
    (download.folder / _RECORD).write_text(text, encoding="utf-8")
    return download.folder


def _named(model: str) -> tuple[str, str, str]:
    """Return name, repository and licence."""
    if model.startswith("hf:"):
        repository = model.removeprefix("hf:")
        if not _REPOSITORY.fullmatch(repository):
            raise InvalidInputError(
                f"model: expected a repository as hf:owner/name, found {model!r}"
            )
        return repository.split("/")[1], repository, ""
    if model in KNOWN:
        return model, KNOWN[model].repository, KNOWN[model].licence
    message = f"models: no {model!r} to download; known: {', '.join(KNOWN)}, or hf:owner/name"
    if near := difflib.get_close_matches(model, KNOWN, n=1):
        message += f". Did you mean {near[0]!r}?"
    raise UnknownNameError(message)


def _hub() -> Any:
    try:
        import huggingface_hub  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise MissingExtraError.of("downloading models", extra="hub") from error
    return huggingface_hub


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT")


def _asked(repository: str, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception as error:  # of several libraries, which share no class
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(
            f"{repository}: expected an answer of {_endpoint() or 'https://huggingface.co'}, found "
            f"{type(error).__name__}: {reason}; try again, or download the files elsewhere "
            f"(`hf download {repository} --local-dir FOLDER`) and give the folder"
        ) from error


def _licence(info: Any) -> str:
    card = getattr(info, "card_data", None)
    return str(getattr(card, "license", None) or "unknown")
