"""Sphinx's settings."""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

project = "minunet"
author = "The minunet developers"
copyright = "the minunet developers"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.viewcode", "numpydoc", "myst_parser", "mathml", "docstrings"]
default_role = "py:obj"

myst_enable_extensions = ["attrs_block", "deflist", "dollarmath"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # outputs and diagrams are text

add_module_names = False
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # types and shapes stand with the parameters
autodoc_preserve_defaults = True
numpydoc_show_class_members = False
viewcode_line_numbers = True

html_theme = "furo"
html_title = "minunet"
html_logo = html_favicon = str(FOLDER / "mark.svg")
html_static_path = [str(FOLDER / "style.css")]
html_css_files = ["style.css"]
html_math_renderer = "mathml"
html_scaled_image_link = True
html_copy_source = False
html_show_search_summary = False  # needs a server
html_show_sphinx = False
html_show_copyright = False
pygments_style = "tango"
pygments_dark_style = "github-dark"
html_theme_options = {  # a colour of the one needs its counterpart in the other
    "light_css_variables": {
        "color-brand-primary": "#00694d",
        "color-brand-content": "#00694d",
        "color-api-name": "#00694d",
        "color-api-pre-name": "#00694d",
    },
    "dark_css_variables": {
        "color-brand-primary": "#4fc9a4",
        "color-brand-content": "#4fc9a4",
        "color-api-name": "#4fc9a4",
        "color-api-pre-name": "#4fc9a4",
    },
    "footer_icons": [],
}
