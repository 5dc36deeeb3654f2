"""HTML as a tree of elements.

What a test, a tool or a machine has named becomes the text of an element or the value of an attribute, and is escaped
when the tree is written.  Only `script` and `style` are written as they are: they hold the files of this package.
"""

from __future__ import annotations

import base64
import hashlib
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from nvdimmfs.errors import printable


def add(parent: Element, tag: str, text: str = "", **attributes: str) -> Element:
    """Append an element with a text.

    Args:
        parent: what it is appended to.
        tag: its name.
        text: one line or several.
        attributes: by name; `_` stands for a hyphen, and one at the end for nothing (`class_`).
    """
    names = {name.rstrip("_").replace("_", "-"): shown(value) for name, value in attributes.items()}
    element = ElementTree.SubElement(parent, tag, names)
    if text:
        element.text = shown(text)
    return element


def add_source(parent: Element, tag: str, source: str) -> None:
    """Append a script or a style sheet of this package."""
    ElementTree.SubElement(parent, tag).text = source


def shown(text: str) -> str:
    """A text whose lines have no unprintable characters: control characters, lone surrogates, changes of direction."""
    return "\n".join(map(printable, text.split("\n")))


def digest(source: str) -> str:
    """How a Content-Security-Policy names a script or style sheet that it allows."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def data_of(kind: str, content: str) -> str:
    """A file as a URL that is not fetched from anywhere."""
    return f"data:{kind};base64,{base64.b64encode(content.encode()).decode()}"


def document(root: Element) -> str:
    """The text of a page."""
    return f"<!DOCTYPE html>\n{ElementTree.tostring(root, encoding='unicode', method='html')}\n"
