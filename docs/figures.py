"""The plots of the site: drawn by matplotlib from the library's results, on a transparent background for light and dark pages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from generate import SCENES, SHOWN
from matplotlib.figure import Figure

import jitloss

TEXT, FAINT = "#7d8590", "#7d859055"
VALUE, SLOPE, SECOND = "#388bfd", "#e5534b", "#3fb68b"
FAMILY = ("#388bfd", "#3fb68b", "#d4a72c", "#e5534b", "#a371f7")
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 10, "text.color": TEXT, "axes.labelcolor": TEXT, "axes.edgecolor": FAINT,
    "xtick.color": TEXT, "ytick.color": TEXT, "axes.grid": True, "grid.color": FAINT, "grid.linewidth": 0.6,
    "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "svg.hashsalt": "jitloss", "svg.fonttype": "path",
}  # fmt: skip
HIGHEST = 4.5


def _figure(width: float = 6.4, height: float = 3.6, **options: Any) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    axes = figure.subplots(**options)
    for one in np.ravel(axes):
        one.patch.set_alpha(0.0)
        one.set_axisbelow(True)
    return figure, axes


def _without_jumps(x: np.ndarray) -> np.ndarray:
    """A curve with gaps in place of jumps."""
    return x + np.where(np.abs(np.diff(x, append=x[-1])) > 0.5, np.nan, 0.0)


# One plot per loss -----------------------------------------------------------------------------------------------------------


def of_loss(loss: jitloss.Loss) -> Figure:
    """Value, gradient and second derivative as functions of one number of an item."""
    x, value, gradient, hessian, label = _sweep(loss)
    figure, axes = _figure()
    axes.plot(x, value, color=VALUE, linewidth=2.4, label="value")
    axes.plot(x, _without_jumps(gradient), color=SLOPE, linewidth=1.8, linestyle=(0, (4, 1.6)), label="gradient")
    if hessian is not None:
        axes.plot(x, _without_jumps(hessian), color=SECOND, linewidth=1.6, linestyle=(0, (1, 1.4)), label="second derivative")
    both = np.clip(np.concatenate([value, gradient]), -HIGHEST, HIGHEST)
    margin = 0.08 * np.ptp(both)
    axes.set_ylim(both.min() - margin, both.max() + margin)
    axes.set_xlim(x[0], x[-1])
    axes.set_xlabel(label)
    axes.legend(loc="best", fontsize=9)
    return figure


Sweep = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None, str]


def _sweep(loss: jitloss.Loss) -> Sweep:
    if loss.definition.form == "pointwise":
        return _along_an_element(loss)
    return ROWS[loss.__name__](loss)


def _along_an_element(loss: jitloss.Loss) -> Sweep:
    definition = loss.definition
    first, given = definition.inputs[0], SHOWN.get(definition.name, {})
    target, (low, high) = SCENES[(definition.target or first).space.name]
    if first.space.name == "probability":
        low, high = 0.0, 1.0
    x = np.linspace(low, high, 1201)
    words = [first.name, *([] if target is None else [f"target {target:g}"]), *(f"{name} {one:g}" for name, one in given.items())]
    if target is None:
        value = np.array([loss([one], **given) for one in x])
        _, gradient, hessian = loss.value_gradient_hessian(x, **given)
        return x, value, gradient, hessian, ", ".join(words)
    value, gradient, hessian = loss.value_gradient_hessian(x, np.full_like(x, target), **given, reduction="none")
    return x, value, gradient, hessian, ", ".join(words)


def _classes(low: float, high: float, rest: Callable[[np.ndarray], list[np.ndarray]], label: str) -> Callable[[Any], Sweep]:
    def sweep(loss: Any) -> Sweep:
        x = np.linspace(low, high, 801)
        rows = np.stack([x, *rest(x)], axis=1)
        targets = np.tile([0.7, 0.3], (801, 1)) if loss.__name__ == "kl_divergence" else np.zeros(801, int)
        value, gradient, hessian = loss.value_gradient_hessian(rows, targets, reduction="none")
        return x, value, gradient[:, 0], hessian[:, 0], label

    return sweep


def _triplet(loss: Any) -> Sweep:
    x = np.linspace(0.0, 3.0, 801)
    points = [np.stack([one, np.zeros_like(x)], axis=1) for one in (np.zeros_like(x), np.ones_like(x), x)]
    value, gradient = loss.value_and_gradient(*points, reduction="none")
    return x, value, gradient["negative"][:, 0], None, "distance of the negative; positive at distance 1, margin 1"


def _contrastive(loss: Any) -> Sweep:
    x = np.linspace(0.0, 2.0, 801)
    points = [np.stack([one, np.zeros_like(x)], axis=1) for one in (x, np.zeros_like(x))]
    value, gradient = loss.value_and_gradient(*points, np.zeros(801), reduction="none")
    return x, value, gradient["embedding1"][:, 0], None, "distance of a pair of different items, margin 1"


ROWS: dict[str, Callable[[Any], Sweep]] = {
    "cross_entropy_loss": _classes(0.0, 1.0, lambda x: [1 - x], "probability of the right class, of two"),
    "cross_entropy_with_logits": _classes(-5.0, 5.0, lambda x: [0 * x, 0 * x], "logit of the right class, two others at 0"),
    "kl_divergence": _classes(0.0, 1.0, lambda x: [1 - x], "probability of the first class, whose target is 0.7"),
    "triplet_loss": _triplet,
    "contrastive_loss": _contrastive,
}

# The gallery ------------------------------------------------------------------------------------------------------------------


def robust() -> Figure:
    """The influence of an outlier: gradients of the regression losses."""
    figure, axes = _figure()
    x = np.linspace(-4, 4, 801)
    for colour, name in zip(FAMILY, ("mse_loss", "huber_loss", "log_cosh_loss", "l1_loss"), strict=False):
        gradient = jitloss.LOSSES[name].gradient(x, np.zeros_like(x), reduction="sum")
        axes.plot(x, _without_jumps(gradient), color=colour, linewidth=2, label=name)
    axes.set_ylim(-3, 3)
    axes.set_xlabel("error")
    axes.set_ylabel("gradient")
    axes.legend(fontsize=9)
    return figure


def quantiles() -> Figure:
    """The tilt of the pinball loss."""
    figure, axes = _figure()
    x = np.linspace(-2, 2, 801)
    for colour, q in zip(FAMILY, (0.1, 0.25, 0.5, 0.75, 0.9), strict=True):
        axes.plot(
            x, jitloss.quantile_loss(x, np.zeros_like(x), quantile=q, reduction="none"), color=colour, linewidth=2, label=f"{q:g}"
        )
    axes.set_xlabel("prediction, target 0")
    axes.legend(title="quantile", fontsize=9)
    return figure


def focal() -> Figure:
    """How focal loss down-weights well-classified examples."""
    figure, axes = _figure()
    x = np.linspace(-4, 5, 801)
    for colour, gamma in zip(FAMILY, (0.0, 0.5, 1.0, 2.0, 5.0), strict=True):
        value = jitloss.focal_loss_with_logits(x, np.ones_like(x), gamma=gamma, alpha=None, reduction="none")
        axes.plot(x, value, color=colour, linewidth=2, label=f"{gamma:g}")
    axes.set_xlabel("logit of a positive example")
    axes.set_ylim(0, 4)
    axes.legend(title="gamma; 0 is cross-entropy", fontsize=9)
    return figure


def landscape() -> Figure:
    """Cross-entropy over two logits, with the direction of steepest descent."""
    figure, axes = _figure(5.4, 4.6)
    x, y = np.meshgrid(np.linspace(-4, 4, 161), np.linspace(-4, 4, 161))
    logits = np.stack([x, y, np.zeros_like(x)], axis=-1)
    value = jitloss.cross_entropy_with_logits(logits, np.zeros(x.shape, int), reduction="none")
    filled = axes.contourf(x, y, value, levels=18, cmap="viridis", alpha=0.9)
    coarse = logits[8::16, 8::16]
    slopes = -jitloss.cross_entropy_with_logits.gradient(coarse, np.zeros(coarse.shape[:2], int), reduction="sum")
    axes.quiver(coarse[..., 0], coarse[..., 1], slopes[..., 0], slopes[..., 1], color="white", scale=18, width=0.004)
    axes.grid(visible=False)
    axes.set_xlabel("logit of the right class")
    axes.set_ylabel("logit of a wrong class; the third is 0")
    figure.colorbar(filled, ax=axes, shrink=0.85).outline.set_visible(False)
    return figure


def triplet() -> Figure:
    """Triplet loss as a function of the position of the negative."""
    figure, axes = _figure(5.4, 4.6)
    x, y = np.meshgrid(np.linspace(-3, 3, 201), np.linspace(-2.5, 2.5, 181))
    negatives = np.stack([x, y], axis=-1)
    anchors, positives = np.zeros_like(negatives), np.broadcast_to([0.8, 0.3], negatives.shape)
    value = jitloss.triplet_loss(anchors, positives, negatives, reduction="none")
    filled = axes.contourf(x, y, value, levels=16, cmap="magma_r", alpha=0.85)
    axes.contour(x, y, value, levels=[1e-9], colors=[SECOND], linewidths=2)
    for place, name, away, side in (((0, 0), "anchor", (-9, -16), "right"), ((0.8, 0.3), "positive", (8, 7), "left")):
        axes.plot(*place, "o", color="white", markeredgecolor="black", markersize=9)
        box = {"boxstyle": "round,pad=0.2", "fc": "white", "ec": "none", "alpha": 0.85}
        axes.annotate(name, place, away, textcoords="offset points", color="black", bbox=box, ha=side)
    axes.set_xlabel("loss for a negative at this point; zero outside the green line")
    axes.grid(visible=False)
    axes.set_aspect("equal")
    figure.colorbar(filled, ax=axes, shrink=0.85).outline.set_visible(False)
    return figure


def smoothing() -> Figure:
    """The effect of label smoothing on confident predictions."""
    figure, axes = _figure()
    x = np.linspace(-2, 10, 801)
    logits = np.stack([x, 0 * x, 0 * x], axis=1)
    for colour, share in zip(FAMILY, (0.0, 0.05, 0.1, 0.2), strict=False):
        value = jitloss.cross_entropy_with_logits(logits, np.zeros(801, int), label_smoothing=share, reduction="none")
        axes.plot(x, value, color=colour, linewidth=2, label=f"{share:g}")
    axes.set_xlabel("logit of the right class, two others at 0")
    axes.legend(title="label_smoothing", fontsize=9)
    return figure


def stability() -> Figure:
    """Relative errors of the textbook formula and of the kernel, in float32."""
    figure, axes = _figure()
    z = np.linspace(-40, 120, 1601).astype(np.float32)
    exact = np.logaddexp(0.0, z.astype(np.float64))
    with np.errstate(all="ignore"):
        naive = np.log(1 + np.exp(z)).astype(np.float64)
        ours = jitloss.binary_cross_entropy_with_logits(z, np.zeros_like(z), reduction="none").astype(np.float64)
        for colour, name, values in ((SLOPE, "log(1 + exp(z))", naive), (VALUE, "jitloss", ours)):
            error = np.abs(values - exact) / exact
            axes.semilogy(
                z, np.where(np.isfinite(error), np.maximum(error, 1e-9), np.nan), color=colour, linewidth=1.4, label=name
            )
    axes.axvspan(88.7, 120, color=SLOPE, alpha=0.12)
    axes.text(90, 3e-9, "inf", color=SLOPE)
    axes.set_xlabel("logit of a negative example")
    axes.set_ylabel("relative error, float32")
    axes.legend(fontsize=9)
    return figure


def regularisation() -> Figure:
    """The penalties near 0, where they differ."""
    figure, axes = _figure()
    x = np.linspace(-2, 2, 401)
    for colour, name in zip(FAMILY, ("l1_regularization", "l2_regularization", "elastic_net"), strict=False):
        axes.plot(x, [jitloss.LOSSES[name]([one], strength=1.0) for one in x], color=colour, linewidth=2, label=name)
    axes.set_xlabel("parameter, strength 1")
    axes.legend(fontsize=9)
    return figure


def rooms() -> Figure:
    """The modules and the arrows between them, from the imports."""
    import ast

    package = Path(jitloss.__file__).parent
    levels = (
        ("public interface", ["jitloss", "jitloss.torch"]),
        ("", ["composition", "gradcheck", "objectives"]),
        ("the call", ["loss"]),
        ("", ["form"]),
        ("", ["quick", "device", "parts", "jitted"]),
        ("", ["call"]),
        ("", ["options", "inputs", "outputs"]),
        ("", ["registry", "running"]),
        ("compilers and arrays", ["compilers", "arrays"]),
        ("the maths", ["losses", "algebra"]),
        ("", ["definition"]),
        ("", ["spaces"]),
        ("", ["binding", "math"]),
    )
    places, figure, axes = {}, *_figure(7.2, 6.4)
    for row, (_, names) in enumerate(levels):
        for column, name in enumerate(names):
            places[name] = ((column + 0.5) / len(names), -row)
    for name in places:
        files = [package / f"{name}.py"] if (package / f"{name}.py").exists() else sorted((package / name).rglob("*.py"))
        for file in files:
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.ImportFrom) or not node.level:
                    continue
                for other in set((node.module or "").split(".")) | {one.name for one in node.names}:
                    if other in places and other != name and places[other][1] < places[name][1]:
                        (x, y), (u, v) = places[name], places[other]
                        style = {"arrowstyle": "-|>", "color": VALUE, "alpha": 0.28, "linewidth": 0.9, "shrinkA": 9, "shrinkB": 9}
                        axes.annotate("", (u, v), (x, y), arrowprops=style)
    for name, (x, y) in places.items():
        axes.text(
            x, y, name, ha="center", va="center", color=TEXT, bbox={"boxstyle": "round,pad=0.35", "fc": "#388bfd22", "ec": VALUE}
        )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-len(levels) + 0.4, 0.6)
    axes.axis("off")
    return figure


GALLERY: dict[str, tuple[Callable[[], Figure], str, str]] = {
    "landscape": (landscape, "Softmax cross-entropy over two logits", "losses/cross_entropy_with_logits.md"),
    "triplet": (triplet, "Triplet loss by position of the negative", "losses/triplet_loss.md"),
    "robust": (robust, "The influence of an outlier", "losses/huber_loss.md"),
    "focal": (focal, "Focal loss down-weights easy examples", "losses/focal_loss_with_logits.md"),
    "quantiles": (quantiles, "Pinball losses of several quantiles", "losses/quantile_loss.md"),
    "smoothing": (smoothing, "Label smoothing and confidence", "losses/cross_entropy_with_logits.md"),
    "stability": (stability, "The textbook formula and the kernel", "numerical-stability.md"),
    "regularisation": (regularisation, "Penalties near zero", "losses/elastic_net.md"),
}


def save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, transparent=True, metadata={"Date": None} if file.suffix == ".svg" else {"Software": None}, dpi=150)


def draw(folder: Path) -> None:
    """Draw all plots into a folder."""
    with mpl.rc_context(STYLE):
        for name, loss in jitloss.LOSSES.items():
            save(of_loss(loss), folder / "losses" / f"{name}.svg")
        for name, (picture, _, _) in GALLERY.items():
            heavy = name in ("landscape", "triplet")
            save(picture(), folder / f"{name}.{'png' if heavy else 'svg'}")
        save(rooms(), folder / "rooms.svg")
