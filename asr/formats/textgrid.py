"""TextGrid: the annotations that Praat opens beside a recording."""

from __future__ import annotations

from typing import IO

from praatio.utilities.textgrid_io import getTextgridAsStr

from asr.decoding.hypothesis import Transcript
from asr.formats.timeline import timeline


class TextGridWriter:
    """Writes two tiers of the same intervals, `words` and `confidence` (0 to 1), as long text.

    Both fill the recording, with empty intervals where nothing is said.
    """

    def write(self, transcript: Transcript, stream: IO[str]) -> None:
        """Write one transcript."""
        content = timeline(transcript)
        labels = {
            "words": [word.text for word in content.words],
            "confidence": [f"{word.confidence:.4f}" for word in content.words],
        }
        end_s = content.end_ms / 1000
        tiers = [
            {
                "class": "IntervalTier",
                "name": name,
                "xmin": 0.0,
                "xmax": end_s,
                "entries": [
                    (word.start_ms / 1000, word.end_ms / 1000, label)
                    for word, label in zip(content.words, texts, strict=True)
                ],
            }
            for name, texts in labels.items()
        ]
        stream.write(
            getTextgridAsStr(
                {"xmin": 0.0, "xmax": end_s, "tiers": tiers},
                format="long_textgrid",
                includeBlankSpaces=True,
            )
        )
