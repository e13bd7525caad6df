"""The documentation site: every public loss, option, parameter and adapter has its page, and pages are written from the list."""

import re
import sys
from pathlib import Path

import pytest

import jitloss
from jitloss.options import DEFAULTS

pytest.importorskip("matplotlib")

DOCS = Path(__file__).resolve().parents[1] / "docs"
sys.path[:0] = [str(DOCS)]
pages = pytest.importorskip("pages")

PAGES = {page.stem: page.read_text(encoding="utf-8") for page in DOCS.glob("*.md")}
ADAPTERS = {
    "arrays.numpy": "quickstart",
    "arrays.cuda": "cuda",
    "arrays.devices": "cuda",
    "arrays.memory": "cuda",
    "arrays.torch": "pytorch",
    "arrays.jax": "jax",
    "arrays.dask": "dask",
    "arrays.columns": "columns",
    "objectives.boosters": "boosting",
    "objectives.linear": "scipy",
    "objectives.shown": "boosting",
    "torch": "pytorch",
    "jitted": "numba",
}
"""The page of each adapter."""


@pytest.mark.parametrize("name", jitloss.LOSSES)
def test_each_loss_has_a_page(name):
    loss, text = jitloss.LOSSES[name], pages.page(jitloss.LOSSES[name])
    assert text.startswith(f"# {name}\n")
    for argument in loss.__signature__.parameters:
        assert re.search(rf"`{argument}[`=]", text), f"{name}: nothing is said of {argument}"
    assert "$$" in text
    assert "## Example" in text
    assert f"pictures/losses/{name}.svg" in text


def test_pages_say_who_has_the_same_numbers():
    text = pages.page(jitloss.cross_entropy_with_logits)
    assert "| PyTorch | `F.cross_entropy(maps, masks)` | `cross_entropy_with_logits(maps, masks, axis=1)` |" in text
    assert "| optax | `optax.softmax_cross_entropy(z, soft).mean()` |" in text
    assert "| scikit-learn | `metrics.mean_pinball_loss(t, p, alpha=0.9)` |" in pages.page(jitloss.quantile_loss)


def test_each_loss_can_be_drawn():
    import figures

    for loss in jitloss.LOSSES.values():
        (axes,) = figures.of_loss(loss).axes
        assert len(axes.lines) == 3 if loss.definition.hessian else len(axes.lines) >= 2
    assert {loss.__name__ for loss in jitloss.LOSSES.values() if loss.definition.form == "rowwise"} == set(figures.ROWS)


def test_each_option_is_described():
    assert set(pages.OPTIONS) == set(DEFAULTS)
    assert all(f"`{name}" in PAGES["conventions"] for name in DEFAULTS)


def test_each_adapter_has_a_page():
    package = Path(jitloss.__file__).parent
    files = {
        file.relative_to(package).with_suffix("").as_posix().replace("/", ".")
        for folder in ("arrays", "objectives")
        for file in (package / folder).glob("*.py")
        if file.stem != "__init__"
    }
    assert files | {"torch", "jitted"} == set(ADAPTERS)
    assert set(ADAPTERS.values()) <= set(PAGES)


def test_each_page_is_in_the_tree():
    """A page missing from the table of contents is a warning, and warnings are errors."""
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", PAGES["index"], re.MULTILINE | re.DOTALL)
    entries = {line.strip() for tree in trees for line in tree.splitlines() if line.strip() and not line.startswith(":")}
    assert entries == {*PAGES, "gallery", "api", "losses/*"} - {"index"}


def test_the_api_has_every_public_name():
    pytest.importorskip("torch")  # whose names jitloss.torch has
    text = pages.api()
    losses = {*jitloss.LOSSES, *(f"{name}_gradient" for name in jitloss.LOSSES)}
    assert set(re.findall(r"^\.\. auto\w+:: jitloss\.(\w+)$", text, re.MULTILINE)) == set(jitloss.__all__) - losses - {"LOSSES"}
    assert [name for name in jitloss.objectives.__all__ if name.islower() and f"jitloss.objectives.{name}" not in text] == []


def test_the_gallery_leads_to_every_loss():
    text = pages.gallery()
    assert all(f":link: losses/{name}\n" in text for name in jitloss.LOSSES)
