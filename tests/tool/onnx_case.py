"""Reads the node tests of ONNX: a model of one node, its input and output tensors. A small reader of protobuf's
wire format; field numbers are those of onnx.proto."""
import pathlib
import struct

# TensorProto.DataType -> (safetensors' name, bytes of an element)
TYPES = {1: ("F32", 4), 2: ("U8", 1), 6: ("I32", 4), 7: ("I64", 8), 9: ("BOOL", 1), 10: ("F16", 2), 16: ("BF16", 2)}


def varint(data, at):
    """(number, where the next one starts)."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def fields(data):
    """(number, value) of each field: an int, or bytes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            assert kind == 2, f"wire type {kind}"
            size, at = varint(data, at)
        yield key >> 3, data[at:at + size]
        at += size


def varints(value):
    """A repeated int64, packed or not."""
    if isinstance(value, int):
        return [value]
    out, at = [], 0
    while at < len(value):
        number, at = varint(value, at)
        out.append(number)
    return out


def tensor(data):
    """(type, shape, bytes) of a TensorProto, little-endian."""
    shape, kind, raw, numbers, floats = [], 0, None, [], b""
    for number, value in fields(data):
        if number == 1:
            shape += varints(value)
        elif number == 2:
            kind = value
        elif number == 9:
            raw = value
        elif number == 4:
            floats += value
        elif number in (5, 7):
            numbers += varints(value)
    name, size = TYPES[kind]
    if raw is None:
        code = {"F32": "", "I64": "q", "I32": "i", "BOOL": "B", "U8": "B", "F16": "H"}[name]
        signed = [n - (1 << 64) if n >> 63 else n for n in numbers]
        raw = floats if name == "F32" else struct.pack(f"<{len(signed)}{code}", *signed)
    return name, shape, bytes(raw)


def attribute(data):
    name, value = "", 0
    for number, field in fields(data):
        if number == 1:
            name = field.decode()
        elif number == 2:
            value = struct.unpack("<f", field)[0]
        elif number == 3:
            value = field - (1 << 64) if field >> 63 else field
        elif number == 4:
            value = field.decode()
    return name, value


class Case:
    """op, inputs and outputs (a list of (name, tensor) or None), attributes."""

    def __init__(self, folder):
        folder = pathlib.Path(folder)
        self.name = folder.name
        graph = next(v for n, v in fields((folder / "model.onnx").read_bytes()) if n == 7)
        nodes = [v for n, v in fields(graph) if n == 1]
        assert len(nodes) == 1, self.name
        node = list(fields(nodes[0]))
        self.op = next(v for n, v in node if n == 4).decode()
        self.attributes = dict(attribute(v) for n, v in node if n == 5)
        data = folder / "test_data_set_0"
        self.inputs = self.tensors(data, "input", [v.decode() for n, v in node if n == 1])
        self.outputs = self.tensors(data, "output", [v.decode() for n, v in node if n == 2])

    @staticmethod
    def tensors(data, kind, names):
        out, next_file = [], 0
        for name in names:
            out.append(tensor((data / f"{kind}_{next_file}.pb").read_bytes()) if name else None)
            next_file += bool(name)
        return out


def write_safetensors(path, tensors):
    """tensors: name -> (type, shape, bytes)."""
    import json
    head, data = {}, b""
    for name, (kind, shape, content) in tensors.items():
        head[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(head).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def numbers(kind, content):
    """The elements of a tensor of reals."""
    if kind == "F32":
        return struct.unpack(f"<{len(content) // 4}f", content)
    assert kind == "F16", kind
    return struct.unpack(f"<{len(content) // 2}e", content)
