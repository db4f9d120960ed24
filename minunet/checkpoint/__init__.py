"""Networks on disk.

file.py       the format: one safetensors file
build.py      from a description and weights to a network
load.py       reading any checkpoint: `minunet.load`
onnx.py       writing ONNX
pytorch/      PyTorch-UNet's files, read without PyTorch, and written
"""
