"""The oldest NVRTC that the extras admit, behind the interface of CuPy's binding.

CuPy brings no binding for it beside another one's, so its C functions are called here. .ci/run installs its wheel.
"""

from __future__ import annotations

import ctypes
from importlib import metadata
from pathlib import Path
from typing import Any

OLDEST = "12.0.76"
"""Of cuda-toolkit==12.0.0, the first of 12.*"""


class NVRTCError(RuntimeError):
    """What CuPy's binding raises."""


class OldNvrtc:
    """The functions of `cupy_backends.cuda.libs.nvrtc` that `kernels.cuda.build` calls."""

    NVRTCError = NVRTCError

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def _call(self, name: str, *arguments: Any) -> None:
        if status := getattr(self.library, name)(*arguments):
            raise NVRTCError(self.library.nvrtcGetErrorString(status).decode())

    def _text(self, program: Any, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, text)
        return text.raw[:-1]  # the zero at its end; of a cubin its last byte, as CuPy's binding does

    def getVersion(self) -> tuple[int, int]:
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        return major.value, minor.value

    def getSupportedArchs(self) -> list[int]:
        number = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(number))
        found = (ctypes.c_int * number.value)()
        self._call("nvrtcGetSupportedArchs", found)
        return list(found)

    def createProgram(self, source: str, name: str, headers: list, names: list) -> Any:
        program = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", ctypes.byref(program), source.encode(), name.encode(), 0, None, None)
        return program

    def compileProgram(self, program: Any, options: list[str]) -> None:
        given = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        self._call("nvrtcCompileProgram", program, len(options), given)

    def getPTX(self, program: Any) -> str:
        return self._text(program, "PTX").decode()

    def getCUBIN(self, program: Any) -> bytes:
        return self._text(program, "CUBIN")

    def getProgramLog(self, program: Any) -> str:
        return self._text(program, "ProgramLog").decode()

    def destroyProgram(self, program: Any) -> None:
        self._call("nvrtcDestroyProgram", ctypes.byref(program))


def find() -> Path | None:
    """Where its library lies, if it is installed in that version."""
    try:
        wheel = metadata.distribution("nvidia-cuda-nvrtc-cu12")
    except metadata.PackageNotFoundError:
        return None
    files = [f for f in wheel.files or () if f.name == "libnvrtc.so.12"] if wheel.version == OLDEST else []
    return Path(str(wheel.locate_file(files[0]))) if files else None
