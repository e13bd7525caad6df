"""Losses of distances between embeddings."""

from dataclasses import KW_ONLY

from ..definition import Embedding, NonNegative, Same, rowwise
from ..math import maximum, sign, sqrt, where


def inverse(distance):
    """1 / distance, and 0 at 0: the gradient of a Euclidean distance at 0 is taken as 0."""
    return where(distance > 0.0, 1.0 / distance, 0.0)


@rowwise
class triplet_loss:
    """Triplet margin loss: an anchor nearer to its positive than to its negative, by a margin."""

    margin: NonNegative = 1.0
    _: KW_ONLY
    squared: bool = False

    def terms(anchor: Embedding, positive: Embedding, negative: Embedding):
        near, far = anchor - positive, anchor - negative
        return near * near, far * far

    def value(sums, margin, squared):
        near, far = sums
        pull, push = 2.0, 2.0
        if not squared:
            near, far = sqrt(near), sqrt(far)
            pull, push = inverse(near), inverse(far)
        value = maximum(near - far + margin, 0.0)
        active = sign(value)
        return value, active * pull, active * push

    def slope(anchor, positive, negative, pull, push):
        to_positive, to_negative = pull * (anchor - positive), push * (anchor - negative)
        return to_positive - to_negative, -to_positive, to_negative


@rowwise
class contrastive_loss:
    """Contrastive loss: pairs of the same kind near each other, other pairs at least a margin apart."""

    margin: NonNegative = 1.0

    def terms(embedding1: Embedding, embedding2: Embedding):
        difference = embedding1 - embedding2
        return difference * difference

    def value(sums, label: Same, margin):
        distance = sqrt(sums)
        gap = maximum(margin - distance, 0.0)
        return label * sums + (1.0 - label) * gap * gap, 2.0 * label - 2.0 * (1.0 - label) * gap * inverse(distance)

    def slope(embedding1, embedding2, pull):
        push = pull * (embedding1 - embedding2)
        return push, -push
