"""Which names of TensorRT and pycuda the code uses, read from the code itself."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

from ovs_edge.runtime.engines import cuda, tensorrt_api, tensorrt_protocols


def protocols() -> dict[str, list[str]]:
    """TensorRT's classes -> methods and attributes that the protocols promise. The type checker refuses all others."""
    found = {}
    for name, kind in vars(tensorrt_protocols).items():
        if inspect.isclass(kind) and kind.__module__ == tensorrt_protocols.__name__:
            members = {*inspect.get_annotations(kind), *(m for m in vars(kind) if not m.startswith("_"))}
            found[name] = sorted(members)
    return found


def attributes(module: object, variable: str) -> set[str]:
    """`A.B` of every `variable.A.B` that the source of `module` writes."""
    assert inspect.ismodule(module)
    tree = ast.parse(Path(inspect.getfile(module)).read_text(encoding="utf-8"))
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            names = [node.attr]
            value = node.value
            while isinstance(value, ast.Attribute):
                names.insert(0, value.attr)
                value = value.value
            if isinstance(value, ast.Name) and value.id == variable:
                found.add(".".join(name for name in names if not name.startswith("__")))
    return found - {""}


TENSORRT = attributes(tensorrt_api, "trt")  # "Builder", "BuilderFlag.TF32", …
_HELD = "_cuda."  # pycuda, where an object holds it
PYCUDA = attributes(cuda, "cuda") | {
    name.removeprefix(_HELD) for name in attributes(cuda, "self") if name.startswith(_HELD)
}
CLASSES = sorted({*protocols(), *(name.split(".")[0] for name in TENSORRT)})
# Methods called on pycuda's objects, which have no protocol.
PYCUDA_METHODS = {
    "compute_capability", "get_attribute", "name", "retain_primary_context", "push", "pop", "detach", "synchronize",
    "handle", "get_device_pointer", "free",
}  # fmt: skip
