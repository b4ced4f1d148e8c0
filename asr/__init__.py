"""Speech recognition: recordings with transcripts in, a recogniser out.

```python
import asr

model = asr.load("runs/an4/base/model")
for transcript in model.transcribe(["a.wav", "b.flac"]):
    print(transcript.text)
```

Importing this package loads nothing heavy; `load` and `Transcript` are fetched when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asr.decoding.hypothesis import Transcript
    from asr.pipelines import open_model as load

__version__ = "0.1.0"
__all__ = ["Transcript", "__version__", "load"]


_HOMES = {
    "load": ("asr.pipelines", "open_model"),
    "Transcript": ("asr.decoding.hypothesis", "Transcript"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        module, attribute = _HOMES[name]
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
