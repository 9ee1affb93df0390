"""Places and file formats that the scripts of this folder share."""
import json
import pathlib

import numpy

DATA = pathlib.Path(__file__).resolve().parent.parent / "data"


def write_json(path, value):
    """Readable JSON: one line for each entry of the outermost list or object, and for each entry of a list in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dump = lambda x: json.dumps(x, ensure_ascii=False)
    rows = lambda xs: "[\n" + ",\n".join("  " + dump(x) for x in xs) + "\n ]"
    deep = lambda x: rows(x) if isinstance(x, list) and x and isinstance(x[0], (dict, list)) else dump(x)
    if isinstance(value, dict):
        text = "{\n" + ",\n".join(f" {dump(k)}: {deep(v)}" for k, v in value.items()) + "\n}\n"
    else:
        text = "[\n" + ",\n".join(" " + dump(v) for v in value) + "\n]\n"
    path.write_text(text, encoding="utf-8")


class Floats:
    """A raw file of little-endian float32. add() returns where the array lies: offset (in floats) and shape."""

    def __init__(self):
        self.arrays, self.size = [], 0

    def add(self, array):
        array = numpy.asarray(array, dtype="<f4")
        place = {"offset": self.size, "shape": list(array.shape)}
        self.arrays.append(array.ravel())
        self.size += array.size
        return place

    def write(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        numpy.concatenate(self.arrays).tofile(path)
