"""From ONNX to something that runs fast on the machine at hand, and the proof that it still gives the same answers."""
