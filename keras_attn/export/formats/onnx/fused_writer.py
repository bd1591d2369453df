"""ONNX of opset 23, with Attention, RMSNormalization, RotaryEmbedding and Gelu as single operators."""

from keras_attn.export.formats.onnx import writer


class FormatWriter(writer.FormatWriter):
    """Writes `<task>.fused.onnx`, for runtimes that support this opset, such as onnxruntime 1.32."""

    name = "onnx_fused"
    variant = ".fused"

    def finish(self, model):
        from keras_attn.export.formats.onnx import fusion

        fusion.fused(model)
