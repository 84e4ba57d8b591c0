"""Whatever text comes in, a vector comes out, and the same one alone and in company."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imgret.embedders import OnnxEmbedder
from imgret.errors import InvalidInputError, UnsupportedError

MODELS = Path(__file__).parents[1] / "data" / "models"


@pytest.fixture(scope="module", params=["clip", "siglip"])
def embedder(request):
    return OnnxEmbedder(MODELS / request.param)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=5))
@pytest.mark.filterwarnings("ignore:text. expected at most")
def test_any_text(embedder, texts):
    together = embedder.embed_text(texts)
    assert together.shape == (len(texts), embedder.dim)
    alone = np.concatenate([embedder.embed_text([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=2e-4)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\n\t",
        "🌷🌷",
        "שלום עולם",
        "\u202eabc",
        "\x00\x01\x7f",
        "é" * 30,
        "<|endoftext|>",
        "</s>",
    ],
)
def test_odd_texts(embedder, text):
    assert np.isfinite(embedder.embed_text([text])).all()


def test_a_long_text_is_cut_with_a_warning(embedder):
    long = "a red rose " * 10_000
    with pytest.warns(UserWarning, match="expected at most (77|64) tokens, found .*is not read"):
        found = embedder.embed_text([long, "a red rose"])
    assert np.isfinite(found).all()


def test_no_texts(embedder):
    assert embedder.embed_text([]).shape == (0, embedder.dim)


@pytest.mark.parametrize("given_", ["a rose", b"a rose", [5], [None], {"a rose"}])
def test_what_is_not_a_list_of_texts(embedder, given_):
    with pytest.raises(InvalidInputError, match="texts"):
        embedder.embed_text(given_)


def test_an_embedder_for_images_says_so():
    with pytest.raises(UnsupportedError, match="dinov2 holds no graph for text.*CLIP or SigLIP"):
        OnnxEmbedder(MODELS / "dinov2").embed_text(["a rose"])
    with pytest.raises(UnsupportedError, match="general: expected an embedder that reads text"):
        OnnxEmbedder("general").embed_text(["a rose"])


def test_capitals_are_lowered_for_siglip2(tmp_path):
    """Its published tokenizer, Gemma's, does not, though the model was trained on such texts."""
    folder = tmp_path / "siglip2"
    shutil.copytree(MODELS / "siglip", folder)
    tokenizer = folder / "tokenizer.json"
    content = json.loads(tokenizer.read_text())
    content["normalizer"]["normalizers"] = [{"type": "NFKC"}]
    tokenizer.write_text(json.dumps(content))
    plain = OnnxEmbedder(folder)
    before = plain.fingerprint
    lower, upper = plain.embed_text(["a red rose", "A Red ROSE"])
    assert not np.allclose(lower, upper)
    settings = folder / "tokenizer_config.json"
    facts = json.loads(settings.read_text())
    settings.write_text(json.dumps(facts | {"tokenizer_class": "GemmaTokenizer"}))
    lowered = OnnxEmbedder(folder)
    assert lowered.fingerprint != before
    np.testing.assert_allclose(lowered.embed_text(["a red rose", "A Red ROSE"]), [lower, lower])
