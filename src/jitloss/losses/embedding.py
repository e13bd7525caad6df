"""Losses of distances between embeddings."""

from dataclasses import KW_ONLY

from ..definition import Embedding, NonNegative, Same, rowwise
from ..math import maximum, sign, sqrt, times, where


def inverse(distance):
    """1 / distance, and 0 at 0: the gradient of a Euclidean distance at 0 is defined as 0."""
    return where(distance > 0.0, 1.0 / distance, 0.0)


@rowwise
class triplet_loss:
    r"""Triplet margin loss of anchors that should be nearer to positives than to negatives.

    For embeddings that are compared by distance, such as those of faces: each row is an anchor, a
    positive of the same kind and a negative of another, and costs nothing once the negative is farther
    away by ``margin``. It sets no scale for distances, only their order; where pairs are labelled same
    or not, choose :func:`contrastive_loss`.

    .. math::

        \frac{1}{N} \sum_{i=1}^{N} \max(0, d(a_i, p_i) - d(a_i, n_i) + m)

    over :math:`N` rows of anchors :math:`a`, positives :math:`p` and negatives :math:`n`, with the
    margin :math:`m` and the Euclidean distance :math:`d`, or its square with ``squared=True``. The
    gradients, before the factor :math:`1/N` and where the maximum is not 0, are

    .. math::

        \frac{\partial}{\partial a} = u - v, \quad
        \frac{\partial}{\partial p} = -u, \quad
        \frac{\partial}{\partial n} = v, \quad
        u = \frac{a_i - p_i}{d(a_i, p_i)}, \quad v = \frac{a_i - n_i}{d(a_i, n_i)}

    and with ``squared=True`` the same with :math:`u = 2 (a_i - p_i)` and :math:`v = 2 (a_i - n_i)`.

    Parameters
    ----------
    anchors : array_like
        Embeddings, any real numbers, a row of them along ``axis``.
    positives : array_like
        Embeddings of the same kind as the anchors, of the same shape.
    negatives : array_like
        Embeddings of another kind, of the same shape.
    margin : float, default 1.0
        By how much the negative should be farther away than the positive, a number that is not
        negative, in the unit of the distance (or of its square).
    squared : bool, default False
        Whether distances are squared, as in FaceNet.

    Returns
    -------
    float
        The mean over the rows, those that cost nothing included.

    See Also
    --------
    contrastive_loss : Pairs that are labelled same or not.

    Notes
    -----
    At the kink, where the negative is farther by exactly ``margin``, the gradients are 0; the gradient
    of a distance at 0 is taken as 0, where the distance has none. PyTorch's ``triplet_margin_loss``
    [1]_ adds ``eps=1e-6`` to each difference before the norm, so that values differ by about as much.
    FaceNet [2]_ has squared distances of embeddings of length 1, and sums instead of taking the mean.

    References
    ----------
    .. [1] V. Balntas, E. Riba, D. Ponsa and K. Mikolajczyk, "Learning local feature descriptors with
       triplets and shallow convolutional neural networks", BMVC 2016.
    .. [2] F. Schroff, D. Kalenichenko and J. Philbin, "FaceNet: A Unified Embedding for Face
       Recognition and Clustering", CVPR 2015. arXiv:1503.03832.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import triplet_loss
    >>> anchors = np.array([[0.0, 0.0], [0.0, 0.0]])
    >>> positives = np.array([[3.0, 4.0], [1.0, 0.0]])
    >>> negatives = np.array([[0.0, 5.0], [0.0, 9.0]])
    >>> value, gradients = triplet_loss.value_and_gradient(anchors, positives, negatives)
    >>> value
    0.5
    >>> gradients["anchor"]
    array([[-0.3,  0.1],
           [-0. ,  0. ]])
    >>> gradients["positive"]
    array([[ 0.3,  0.4],
           [ 0. , -0. ]])

    Squared distances, as in FaceNet:

    >>> round(triplet_loss(anchors, positives, negatives, squared=True, margin=0.2), 4)
    0.1
    """

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
    r"""Contrastive loss of pairs that should be near each other, or at least a margin apart.

    For embeddings that are compared by distance and learned from pairs: pairs of the same kind are
    drawn together, others are pushed apart until they are ``margin`` away. Where only the order of
    distances matters, choose :func:`triplet_loss`.

    .. math::

        \frac{1}{N} \sum_{i=1}^{N} \left( y_i d_i^2 + (1 - y_i) \max(0, m - d_i)^2 \right)

    over :math:`N` rows, with the label :math:`y_i`, the margin :math:`m` and the Euclidean distance
    :math:`d_i = \|u_i - v_i\|` of the embeddings :math:`u` and :math:`v`. The gradient with respect to
    :math:`u`, before the factor :math:`1/N`, is

    .. math::

        2 y_i (u_i - v_i) - 2 (1 - y_i) \max(0, m - d_i) \frac{u_i - v_i}{d_i}

    and that with respect to :math:`v` is its negative.

    Parameters
    ----------
    embeddings1 : array_like
        Embeddings, any real numbers, a row of them along ``axis``.
    embeddings2 : array_like
        Embeddings to compare them with, of the same shape.
    labels : array_like
        One for each pair, 1 where it is of the same kind and 0 where it is not; of the shape of
        ``embeddings1`` without ``axis``. Numbers are taken as they are: turn labels of -1 and 1, or
        of 0 and 255, into bools first.
    margin : float, default 1.0
        How far apart the other pairs should be, a number that is not negative, in the unit of the
        distance.

    Returns
    -------
    float
        The mean over the rows; neither part is halved.

    See Also
    --------
    triplet_loss : An anchor with a positive and a negative.

    Notes
    -----
    Labels say 1 for the same kind. The paper [1]_ has it the other way round and halves both parts, and
    so do implementations that follow it: give them ``1 - labels``. At the margin the gradient is 0;
    where both embeddings of a pair are the same the direction away is unknown, and the gradient is 0
    too. A label between 0 and 1 mixes the two parts.

    References
    ----------
    .. [1] R. Hadsell, S. Chopra and Y. LeCun, "Dimensionality Reduction by Learning an Invariant
       Mapping", CVPR 2006, 1735-1742.

    Examples
    --------
    >>> import numpy as np
    >>> from jitloss import contrastive_loss
    >>> first = np.array([[3.0, 4.0], [0.5, 0.0]])
    >>> second = np.array([[0.0, 0.0], [0.0, 0.0]])
    >>> labels = np.array([1, 0])
    >>> value, gradients = contrastive_loss.value_and_gradient(first, second, labels)
    >>> value
    12.625
    >>> gradients["embedding1"]
    array([[ 3. ,  4. ],
           [-0.5, -0. ]])

    The second pair pushes harder under a wider margin:

    >>> contrastive_loss.gradient(first, second, labels, margin=2.0)["embedding1"]
    array([[ 3. ,  4. ],
           [-1.5, -0. ]])
    """

    margin: NonNegative = 1.0

    def terms(embedding1: Embedding, embedding2: Embedding):
        difference = embedding1 - embedding2
        return difference * difference

    def value(sums, label: Same, margin):
        distance = sqrt(sums)
        gap = maximum(margin - distance, 0.0)
        return times(label, sums) + times(1.0 - label, gap * gap), 2.0 * label - 2.0 * (1.0 - label) * gap * inverse(distance)

    def slope(embedding1, embedding2, pull):
        push = pull * (embedding1 - embedding2)
        return push, -push
