"""A progress bar on stderr: files and hours of audio a second, time left."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class AudioProgress:
    """Counts files and seconds of audio; draws only where stderr is a terminal."""

    def __init__(self, title: str, files: int) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rates]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(title, total=files, rates="")
        self._began = time.perf_counter()
        self._files = 0
        self._audio_s = 0.0

    def __enter__(self) -> AudioProgress:
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def advance(self, files: int, audio_s: float) -> None:
        """So many more files, with so much audio, are done."""
        self._files += files
        self._audio_s += audio_s
        elapsed_s = max(time.perf_counter() - self._began, 1e-9)
        rates: dict[str, Any] = {
            "rates": f"{self._files / elapsed_s:.0f} files/s, "
            f"{self._audio_s / 3600 / elapsed_s:.3f} h of audio/s"
        }
        self._progress.update(self._task, advance=files, **rates)
