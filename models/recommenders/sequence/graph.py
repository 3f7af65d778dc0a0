"""The learnt network as an ONNX graph, written node by node: milliseconds, and no tracing of PyTorch's insides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20


def as_onnx(weights: Mapping[str, np.ndarray], *, layers: int, heads: int, gated: bool) -> bytes:
    """The graph of `network.Network`, serialised.

    It takes `steps`, float32 (n, length, dim), and `last`, int64 (n, 1), each row's last position; what lies after
    that does not count. It gives `wanted`, float32 (n, dim), the vector to score items with. n and length are free.

    Args:
        weights: The network's parameters by name, float32.
        layers: Blocks.
        heads: Of attention.
        gated: Whether the blocks are.
    """
    graph = _Graph(weights)
    positions, dim = weights["positions"].shape
    length = graph.node("Slice", graph.node("Shape", "steps"), graph.ints(1), graph.ints(2))
    zero, both = graph.ints(0), graph.ints(0, 1)
    x = graph.node("Add", "steps", graph.node("Slice", graph.weight("positions"), zero, length, zero))
    causal = graph.constant(np.triu(np.full((positions, positions), -1e4, np.float32), 1))
    mask = graph.node("Slice", causal, graph.ints(0, 0), graph.node("Concat", length, length, axis=0), both)
    by_head, together = graph.ints(0, 0, heads, dim // heads), graph.ints(0, 0, dim)
    scale = graph.constant(np.array((dim // heads) ** -0.5, np.float32))

    def heads_of(x: str, layer: str) -> str:
        return graph.node("Transpose", graph.node("Reshape", graph.linear(x, layer), by_head), perm=[0, 2, 1, 3])

    def added(x: str, extra: str, gate: str) -> str:
        opened = graph.node("Mul", graph.node("Sigmoid", graph.linear(x, gate)), extra) if gated else extra
        return graph.node("Add", x, opened)

    for number in range(layers):
        block = f"blocks.{number}."
        normed = graph.norm(x, block + "attention_norm")
        q, k, v = (heads_of(normed, block + name) for name in ("query", "key", "value"))
        scores = graph.node("MatMul", graph.node("Mul", q, scale), graph.node("Transpose", k, perm=[0, 1, 3, 2]))
        attention = graph.node("Softmax", graph.node("Add", scores, mask), axis=3)
        mixed = graph.node("Transpose", graph.node("MatMul", attention, v), perm=[0, 2, 1, 3])
        attended = graph.linear(graph.node("Reshape", mixed, together), block + "out")
        x = added(x, attended, block + "attention_gate")

        up = graph.linear(graph.norm(x, block + "forward_norm"), block + "up")
        if gated:
            content, gate = graph.nodes("Split", up, outputs=2, axis=2, num_outputs=2)
            up = graph.node("Mul", content, graph.node("Mul", gate, graph.node("Sigmoid", gate)))
        else:
            up = graph.node("Gelu", up)
        x = added(x, graph.linear(up, block + "down"), block + "forward_gate")

    asked = graph.node("GatherND", x, "last", batch_dims=1)
    return graph.serialised(graph.norm(asked, "norm"), dim)


class _Graph:
    """Nodes, and the constants they use, as they are written."""

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights = weights
        self.written: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def nodes(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        names = [f"{kind}{len(self.written)}.{number}" for number in range(outputs)]
        self.written.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.nodes(kind, *inputs, outputs=1, **attributes)[0]

    def constant(self, array: np.ndarray, name: str = "") -> str:
        name = name or f"constant{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def weight(self, name: str) -> str:
        return self.constant(self.weights[name], name)

    def linear(self, x: str, layer: str) -> str:
        product = self.node("MatMul", x, self.constant(self.weights[f"{layer}.weight"].T, f"{layer}.weight"))
        return self.node("Add", product, self.weight(f"{layer}.bias"))

    def norm(self, x: str, layer: str) -> str:
        scale, bias = self.weight(f"{layer}.weight"), self.weight(f"{layer}.bias")
        return self.node("LayerNormalization", x, scale, bias, axis=-1, epsilon=1e-5)

    def serialised(self, output: str, dim: int) -> bytes:
        self.written.append(helper.make_node("Identity", [output], ["wanted"]))
        graph = helper.make_graph(
            self.written,
            "sequence",
            [
                helper.make_tensor_value_info("steps", TensorProto.FLOAT, ["n", "length", dim]),
                helper.make_tensor_value_info("last", TensorProto.INT64, ["n", 1]),
            ],
            [helper.make_tensor_value_info("wanted", TensorProto.FLOAT, ["n", dim])],
            list(self.constants.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        written: bytes = model.SerializeToString()
        return written
