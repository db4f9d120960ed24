"""Networks on disk.

file.py       what a checkpoint stores: the format, one safetensors file
build.py      building a network from the description and the weights in a checkpoint
load.py       reading any checkpoint: `minunet.load`
official.py   torchvision's files of weights: their names, and fetching them
onnx.py       writing ONNX
pytorch/      reading and writing PyTorch-UNet's files, and reading torchvision's, without PyTorch
"""
