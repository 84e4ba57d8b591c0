"""Texts to vectors, by the second tower of a model."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from imgret.errors import MissingExtraError, ModelError
from imgret.models.folder import TextFacts
from imgret.models.session import Session, Tensor
from imgret.models.subgraph import cut_out
from imgret.support.warning import warn
from imgret.types import Embeddings

__all__ = ["TextModel"]

_IDS = ("input_ids", "text", "tokens", "input")
_MASKS = ("attention_mask", "mask")
_ZEROS = ("token_type_ids",)


@final
class TextModel:
    """Runs the graph of a text tower on what its tokenizer makes of texts.

    Parameters
    ----------
    facts : TextFacts
    output : str, optional
        Name of the output; by default the usual one.
    providers : sequence of str, optional
        Execution providers of onnxruntime.

    Raises
    ------
    MissingExtraError
        `tokenizers` is not installed.
    ModelError
        The graph or the tokenizer cannot be used.
    """

    def __init__(
        self,
        facts: TextFacts,
        *,
        output: str | None = None,
        providers: Sequence[str] | None = None,
    ) -> None:
        self.facts = facts
        graph = None
        if facts.combined:
            wanted = [name for name in facts.outputs if name in _names(facts)]
            if not wanted:
                raise ModelError(
                    f"{facts.graph}: expected an output among {', '.join(facts.outputs)}, found "
                    f"{', '.join(_names(facts))}"
                )
            graph = cut_out(facts.graph.read_bytes(), wanted[:1])
        self.session = Session(facts.graph, providers=providers, graph=graph, several=True)
        self._ids = self._input(_IDS)
        if self._ids is None:
            raise ModelError(
                f"{facts.graph}: expected an input for tokens ({' or '.join(_IDS)}), found "
                f"{', '.join(each.name for each in self.session.inputs)}"
            )
        self._mask, self._zeros = self._input(_MASKS), self._input(_ZEROS)
        known = {each.name for each in (self._ids, self._mask, self._zeros) if each is not None}
        if odd := [each.name for each in self.session.inputs if each.name not in known]:
            raise ModelError(
                f"{facts.graph}: expected inputs for tokens and their mask, found also "
                f"{', '.join(odd)}"
            )
        self.output = self._find_output(output)
        # The graph knows best how long its input is.
        shape = self._ids.shape
        self.length = (shape[1] if len(shape) == 2 else None) or facts.length
        self._fixed = facts.fixed or (len(shape) == 2 and shape[1] is not None)
        self._tokenizer = self._load_tokenizer()

    def embed(self, texts: Sequence[str]) -> Embeddings:
        """Return the embeddings of texts: float32, shape (n, dim)."""
        ids, mask = self._tokens(texts)
        assert self._ids is not None  # noqa: S101  # checked when made
        feeds: dict[str, NDArray[Any]] = {self._ids.name: ids.astype(_dtype(self._ids))}
        if self._mask is not None:
            feeds[self._mask.name] = mask.astype(_dtype(self._mask))
        if self._zeros is not None:
            feeds[self._zeros.name] = np.zeros(ids.shape, dtype=_dtype(self._zeros))
        found = self.session.run_named(feeds, self.output)
        if found.ndim != 2 or len(found) != len(texts):
            raise ModelError(
                f"{self.facts.graph}: expected output {self.output!r} of shape (n, dim), found "
                f"{found.shape} for {len(texts)} texts; choose another by text_output="
            )
        return found

    def _tokens(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return ids and mask of the tokens, filled up to one length."""
        given = [_cleaned(text, self.facts.cleaning) for text in texts]
        encodings = self._tokenizer.encode_batch(given)
        longest = max(len(each.ids) for each in encodings)
        if self.length is not None and longest > self.length:
            cut = [
                text
                for text, each in zip(texts, encodings, strict=True)
                if len(each.ids) > self.length
            ]
            warn(
                f"text: expected at most {self.length} tokens, found {longest} in "
                f"{cut[0][:40]!r}{f' and {len(cut) - 1} more' if len(cut) > 1 else ''}; the end "
                f"is not read"
            )
            self._truncating.no_padding()
            encodings = self._truncating.encode_batch(given)
            longest = self.length
        length = self.length if self._fixed and self.length is not None else max(longest, 1)
        ids = np.full((len(texts), length), self._pad, dtype=np.int64)
        mask = np.zeros((len(texts), length), dtype=np.int64)
        for row, each in enumerate(encodings):
            ids[row, : len(each.ids)] = each.ids
            mask[row, : len(each.ids)] = 1
        return ids, mask

    def _load_tokenizer(self) -> Any:
        try:
            from tokenizers import Tokenizer  # noqa: PLC0415  # an extra
        except ImportError as error:
            raise MissingExtraError.of("searching by words", extra="text") from error
        path = self.facts.tokenizer
        try:
            whole, cutting = (Tokenizer.from_file(str(path)) for _ in range(2))
        except Exception as error:  # tokenizers raises Exception itself
            raise ModelError(f"{path}: expected a tokenizer, found: {error}") from error
        said = whole.padding or {}
        whole.no_padding()
        whole.no_truncation()
        cutting.no_padding()
        if self.length is not None:
            cutting.enable_truncation(self.length)
        self._truncating = cutting
        pad = None if self.facts.pad_token is None else whole.token_to_id(self.facts.pad_token)
        self._pad = int(said.get("pad_id", 0) if pad is None else pad)
        return whole

    def _input(self, names: Sequence[str]) -> Tensor | None:
        there = {each.name: each for each in self.session.inputs}
        return next((there[name] for name in names if name in there), None)

    def _find_output(self, asked: str | None) -> str:
        names = [each.name for each in self.session.outputs]
        if asked is None:
            asked = next((name for name in self.facts.outputs if name in names), None)
        if asked is None and len(names) == 1:
            asked = names[0]
        if asked not in names:
            raise ModelError(
                f"{self.facts.graph}: text_output: expected one of {', '.join(names)}, found "
                f"{'no choice' if asked is None else repr(asked)}"
            )
        return asked


def _dtype(tensor: Tensor) -> str:
    return tensor.dtype.removeprefix("tensor(").removesuffix(")")


def _names(facts: TextFacts) -> list[str]:
    from imgret.models.subgraph import inputs_and_outputs  # noqa: PLC0415

    return inputs_and_outputs(facts.graph.read_bytes())[1]


def _cleaned(text: str, cleaning: str) -> str:
    """Return a text as a model was trained on: without capitals, or without punctuation, too."""
    if not cleaning:
        return text
    if cleaning == "canonical":
        text = " ".join(text.translate(str.maketrans("", "", string.punctuation)).split())
    return text.lower()
