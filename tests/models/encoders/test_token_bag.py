"""The bag of words: its formula, padding, empty texts, and the tokens that it drops in training."""

from __future__ import annotations

import pytest
import torch

from equipoise.models.encoders.token_bag import TokenBag
from equipoise.types import ModelError

TOKENS = torch.tensor([[3, 9, 3, 0], [5, 0, 0, 0], [0, 0, 0, 0]])


def bag(**options) -> TokenBag:
    return TokenBag(vocabulary=12, width=4, **options).double()


def test_a_text_is_the_sum_of_its_embeddings_over_the_root_of_their_number():
    encoder = bag().eval()
    weight = encoder.embedding.weight
    expected = torch.stack([(2 * weight[3] + weight[9]) / 3**0.5, weight[5], torch.zeros(4).double()])
    torch.testing.assert_close(encoder(TOKENS), expected, rtol=0, atol=1e-12)


def test_order_and_length_of_the_padding_do_not_matter():
    encoder = bag().eval()
    turned = torch.tensor([[0, 3, 0, 3, 0, 9], [0, 0, 0, 0, 5, 0], [0, 0, 0, 0, 0, 0]])
    torch.testing.assert_close(encoder(turned), encoder(TOKENS), rtol=0, atol=1e-12)


def test_in_training_tokens_are_dropped_as_a_whole():
    encoder = bag(dropout=0.5)
    encoder.dropout.p = 0.0
    weight = encoder.embedding.weight
    texts = torch.tensor([[3, 9]]).expand(400, 2)
    torch.manual_seed(0)
    found = encoder(texts)
    kinds = [torch.zeros(4).double(), weight[3], weight[9], (weight[3] + weight[9]) / 2**0.5]
    counts = [int(torch.isclose(found, kind).all(dim=1).sum()) for kind in kinds]
    assert sum(counts) == 400
    assert min(counts) > 60  # 100 expected of each
    assert torch.equal(encoder.eval()(texts[:1])[0], kinds[3])


def test_without_dropout_training_changes_nothing():
    encoder = bag(dropout=0.0)
    assert torch.equal(encoder(TOKENS), encoder.eval()(TOKENS))


@pytest.mark.parametrize("token", [12, -1])
def test_tokens_outside_the_vocabulary_name_the_option(token):
    with pytest.raises(ModelError, match=rf"0 to 11; found {token}.*'vocabulary'"):
        bag()(torch.tensor([[1, token]]))
