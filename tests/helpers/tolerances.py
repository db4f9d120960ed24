"""How far rounding may take a result from the exact one, by dtype: the one table of the tests.

A test that compares more loosely, or whose bound grows with the number of terms, says beside it why.
"""

HALF_PLACE = {"float64": 2.0**-53, "float32": 2.0**-24, "tf32": 2.0**-11, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""Half of the last place, relative to the number: the most that storing it may change it. The base of bounds that grow with
the square root of the number of terms. (A tensor core reads TF32, 11 digits, of a float32.)"""

OP = {"float64": 1e-12, "float32": 1e-6}
"""Of one op with few terms to a sum, relative: some ten places of float32; of float64 some thousand, which is still nothing."""

NETWORK = {"float32": 1e-5}
"""Of a network with some ten layers, relative to the largest value of a map: each layer adds a few places of its own."""
