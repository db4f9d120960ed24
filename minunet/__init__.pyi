from . import data as data
from . import gradcheck as gradcheck
from . import metrics as metrics
from . import models as models
from . import nn as nn
from . import ops as ops
from . import optim as optim
from .checkpoint.load import load as load
from .checkpoint.pytorch.encoder import load_encoder as load_encoder
from .checkpoint.pytorch.load import load_torch as load_torch
from .checkpoint.pytorch.save import save_torch as save_torch
from .errors import UserError as UserError
from .kernels.gpu import gpu_status as gpu_status
from .models.summary import summary as summary
from .models.unet import UNet as UNet
from .ops.dispatch import use as use
from .predict.inference import segment as segment
from .predict.instances import label_objects as label_objects
from .predict.instances import segment_objects as segment_objects
from .train.fit import fit as fit

__version__: str
