"""Notebooks as students hand them in."""

import json

from minunet.grade import cut
from minunet.grade.exercises import EXERCISES
from minunet.grade.notebook import notebook


def of_cells(*codes: str) -> str:
    """The text of a notebook with these code cells, and a text before them."""
    cells = [
        {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": 1, "source": code} for code in codes
    ]
    text = {"cell_type": "markdown", "metadata": {}, "source": ["# Mine\n", "def not_code():"]}
    return json.dumps({"cells": [text, *cells], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def filled(name: str) -> str:
    """An exercise's notebook with the answers in it."""
    e = EXERCISES[name]
    content = json.loads(notebook(e))
    for cell, place in zip(content["cells"][2:], e.write):
        cell["source"] = cut.taken(*place)
    hidden = [cut.taken(*place) for place in e.hidden]
    content["cells"][1]["source"] = "\n\n".join(["".join(content["cells"][1]["source"]), *hidden])
    return json.dumps(content)
