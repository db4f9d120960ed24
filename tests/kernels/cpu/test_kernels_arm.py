"""The matrix product's innermost loop for Arm: this machine cannot run it, but its compiler can write it."""

from __future__ import annotations

import re

import pytest

from minunet.kernels.cpu import simd
from minunet.kernels.cpu import simd_gemm as simd_product


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "vectors"), [(6, 4), (8, 3), (12, 2), (24, 1)])
def test_the_block_stays_in_registers(rows, vectors, precision, monkeypatch):
    """On NEON, 32 registers of 16 bytes: 24 multiply-adds a round, and no vector goes to memory in between."""
    from llvmlite import binding as llvm
    from numba import cfunc, types

    monkeypatch.setattr(simd, "VECTOR_BYTES", 16)
    block, n, p = simd_product._block(rows, vectors), types.intp, types.CPointer(getattr(types, precision))

    @cfunc(types.void(n, p, n, n, n, n, n, p, p, n))
    def run(last, a, a_row, a_k, a_tap, taps, depth, b, c, c_row):
        block(last, a, a_row, a_k, a_tap, taps, depth, b, c, c_row, c, c_row)

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple("aarch64-unknown-linux-gnu")
    except RuntimeError as e:
        pytest.skip(f"this llvmlite writes no code for Arm: {e}")
    of_this_machine = r'target (triple|datalayout) = .*\n|"target-(cpu|features)"="[^"]*"'
    module = llvm.parse_assembly(re.sub(of_this_machine, "", run.inspect_llvm()))
    code = target.create_target_machine(cpu="neoverse-n1", opt=3).emit_assembly(module)
    loop = max(re.split(r"\n\.\w+:", code), key=lambda part: part.count("fmla"))  # split at labels
    loop = loop.split("\tb.")[0]
    lanes = "4s" if precision == "float32" else "2d"
    found = len(re.findall(rf"fmla\s+v\d+\.{lanes}", loop))
    if found > 24 and found % 24 == 0:
        pytest.skip("numba has unrolled the loop for this machine; .ci/run also runs this with NUMBA_CPU_NAME=haswell")
    assert found == 24
    assert not re.search(r"\bq\d+, .*\[sp", loop), loop
