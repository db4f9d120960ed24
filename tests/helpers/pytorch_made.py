"""Files as `torch.save` writes them, made without PyTorch."""

import io
import pickle
import struct
import zipfile

import numpy as np

from minunet.checkpoint.pytorch.save import layout_of, pickle_state, torch_zip
from minunet.models import UNet

HEAD = [pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]


def arrays(base_width=2, depth=2, **options):
    """The content of a valid file."""
    model = UNet(1, 2, base_width=base_width, depth=depth, **options)
    layout = layout_of(model, model.state(), "-", any_width=True)
    entries = layout.entries().items()
    return {key: np.full(e.shape, 0.5, np.int64 if e.path is None else np.float32) for key, e in entries}


def zipped(data, extra=(), compression=zipfile.ZIP_STORED):
    """A zip as of torch.save around a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        file.writestr("archive/data.pkl", data)
        for name, content in extra:
            file.writestr(f"archive/{name}", content)
    return buffer.getvalue()


def legacy(data, keys=(), storages=b""):
    """The chain of pickles around one."""
    return b"".join([*HEAD, data, pickle.dumps(list(keys), 2), storages])


def small_files():
    content = arrays(base_width=1, depth=1)
    storages = b"".join(struct.pack("<q", a.size) + a.tobytes() for a in content.values())
    return [torch_zip(content), legacy(pickle_state(content), map(str, range(len(content))), storages)]
