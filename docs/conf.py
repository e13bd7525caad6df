"""The documentation as a site: Sphinx, MyST pages whose cells are executed, and pages that are written from the list of losses."""

import os
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE / "_ext")]

import jitloss  # noqa: E402

project, author, copyright = "jitloss", "the authors of jitloss", "the authors of jitloss, BSD-3"
version = release = jitloss.__version__
extensions = ["myst_nb", "sphinx_design", "sphinx_copybutton", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml"]
exclude_patterns = ["_build", "generate.py", "**/.ipynb_checkpoints"]

html_theme = "furo"
html_title = "jitloss"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f6feb", "color-brand-content": "#1f6feb"},
    "dark_css_variables": {"color-brand-primary": "#79b8ff", "color-brand-content": "#79b8ff"},
}
pygments_style, pygments_dark_style = "friendly", "monokai"

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 180
nb_merge_streams = True

napoleon_google_docstring = False
autodoc_typehints = "none"
os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")


def setup(app: Any) -> None:
    """Write the pages and pictures that come from the list of losses before they are read."""
    import pages

    app.connect("builder-inited", lambda _: pages.write(HERE))
