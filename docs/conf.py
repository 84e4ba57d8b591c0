"""The documentation site: ``nox -s docs``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from docutils import nodes

from imgret import __version__

project = "imgret"
author = "The imgret developers"
copyright = "the imgret developers, Apache-2.0"  # noqa: A001  # Sphinx's name
release = version = __version__

_HERE = Path(__file__).parent
sys.path.insert(0, str(_HERE))  # for commands.py

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_nb",
    "commands",
]
smartquotes = False  # options such as --prune stay as they are typed
html_theme = "furo"
html_title = f"imgret {release}"
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0b6e4f", "color-brand-content": "#0b6e4f"},
    "dark_css_variables": {"color-brand-primary": "#5fd3a5", "color-brand-content": "#5fd3a5"},
}
exclude_patterns = ["_build"]

# Sphinx reads only what is below this folder, so the example notebooks are copied here.
shutil.rmtree(_HERE / "examples", ignore_errors=True)
(_HERE / "examples").mkdir()
for _notebook in sorted((_HERE.parent / "examples").glob("*.ipynb")):
    shutil.copy(_notebook, _HERE / "examples")

# Pages are run while they are built, each in an empty folder, on images that are drawn or
# that come with scikit-image.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_show_tb = True
nb_merge_streams = True
myst_heading_anchors = 3
# A word such as `dim` is an attribute of several classes.
suppress_warnings = ["ref.python"]

# Types stand in the docstrings, in words: "float32 array of shape (n, dim)".
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autosummary_generate = False
# The extra that trains is not installed to build the site.
autodoc_mock_imports = ["onnx", "onnxruntime.quantization", "pytorch_metric_learning", "torch"]
default_role = "py:obj"


def _resolve(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Find what docstrings call by its short name: `Retriever` is imgret.Retriever.

    Names that are no object of the reference (an argument, a hook) are left as code.
    """
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    short = target.removeprefix("imgret.")
    python = env.get_domain("py")
    fitting = [name for name in python.objects if f".{name}".endswith(f".{short}")]
    if fitting:
        best = min(fitting, key=len)
        kind = node["reftype"]
        return python.resolve_xref(env, node["refdoc"], app.builder, kind, best, node, content)
    # A full name that is nowhere is a mistake, and warned of.
    return None if short != target else content


def _draw_dashes(app: Any, doctree: Any) -> None:  # noqa: ARG001  # Sphinx's arguments
    """Draw the dash between a parameter and its description, which smart quotes would do."""
    for text in list(doctree.findall(nodes.Text)):
        if " -- " in text and not isinstance(text.parent, nodes.literal | nodes.literal_block):
            text.parent.replace(text, nodes.Text(text.replace(" -- ", " \N{EN DASH} ")))


def setup(app: Any) -> None:
    """Ask for the handlers above: where Sphinx finds nothing, and after a page is read."""
    app.connect("missing-reference", _resolve)
    app.connect("doctree-read", _draw_dashes)
