"""Recipes: what is allowed, and what comes back from a file."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from imgret.errors import InvalidInputError, UnknownNameError
from imgret.train import RECIPES, Augmentation, Recipe
from imgret.train.recipes import find_recipe


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_json_brings_a_recipe_back(name):
    recipe = RECIPES[name]
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert find_recipe(name) is recipe


def test_an_unknown_name_gets_the_known_ones():
    with pytest.raises(UnknownNameError, match=r"'compakt'.*finetune.*mean 'compact'"):
        find_recipe("compakt")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"epochs": 0}, "epochs: expected a whole number of at least 1, found 0"),
        ({"epochs": 2.5}, "epochs"),
        ({"batch_size": 1}, "batch_size: expected a whole number of at least 2"),
        ({"lr": 0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"margin": 91}, "margin"),
        ({"optimizer": "sgd"}, "optimizer: expected one of 'adamw', 'muon', found 'sgd'"),
        ({"head": "cosface"}, "head: expected one of 'arcface'"),
        ({"dropout": 1.0}, "dropout"),
        ({"sides": ()}, "sides"),
        ({"sides": ((0.5, 64),)}, "sides"),
        ({"sides": ((0.0, 64), (0.5, 8))}, "sides: expected a whole number of at least 64"),
        ({"size": 63}, "size"),
    ],
)
def test_what_is_not_allowed_is_told(change, told):
    with pytest.raises(InvalidInputError, match=told):
        replace(RECIPES["compact"], **change)


def test_an_augmentation_is_checked_too():
    with pytest.raises(InvalidInputError, match="smallest: expected a number from 0.01 to 1"):
        Augmentation(smallest=0)


def test_the_margin_grows():
    recipe = replace(RECIPES["reference"], epochs=8, margin=20.0, margin_warmup=0.5)
    assert [recipe.margin_at(epoch) for epoch in range(6)] == [0, 5, 10, 15, 20, 20]
    assert replace(recipe, margin_warmup=0.0).margin_at(0) == 20


def test_sides_follow_the_epochs():
    recipe = replace(RECIPES["compact"], epochs=10, sides=((0.0, 64), (0.5, 96), (0.9, 128)))
    assert [recipe.side(epoch) for epoch in range(10)] == [64] * 5 + [96] * 4 + [128]
