"""ONNX of opset 23: Attention, RMSNormalization, RotaryEmbedding and Gelu are one operator each."""

from keras_attn.export.formats import onnx


class Emitter(onnx.Emitter):
    """Writes `<task>.fused.onnx`, for runtimes that know this opset, as onnxruntime 1.32 does."""

    name = "onnx_fused"
    variant = ".fused"

    def finish(self, model):
        from keras_attn.export import onnx_fusion

        onnx_fusion.fused(model)
