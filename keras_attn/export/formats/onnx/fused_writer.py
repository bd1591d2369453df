"""ONNX of opset 23: Attention, RMSNormalization, RotaryEmbedding and Gelu are one operator each."""

from keras_attn.export.formats.onnx import writer


class Emitter(writer.Emitter):
    """Writes `<task>.fused.onnx`, for runtimes that know this opset, as onnxruntime 1.32 does."""

    name = "onnx_fused"
    variant = ".fused"

    def finish(self, model):
        from keras_attn.export.formats.onnx import fusion

        fusion.fused(model)
