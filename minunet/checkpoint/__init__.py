"""Networks on disk.

file.py       what a checkpoint stores: the format, one safetensors file
build.py      building a network from the description and the weights in a checkpoint
load.py       reading any checkpoint: `minunet.load`
onnx.py       writing ONNX
pytorch/      reading and writing PyTorch-UNet's files, without PyTorch
"""
