"""How functions are compiled by Numba: kept on disk, without Python's lock."""

from __future__ import annotations

from typing import Any

import numba

OPTIONS: dict[str, Any] = {"cache": True, "nogil": True}

kernel = numba.njit(**OPTIONS)
# For functions that make no arrays and are called by kernels. Numba counts references to each array
# that a call hands over, an atomic instruction each, which takes longer than the call does; without
# its runtime it does not.
inner: Any = numba.njit(**{**OPTIONS, "_nrt": False})
