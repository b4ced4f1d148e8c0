"""What a benchmark ran on, in one line."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def hardware(device: torch.device) -> str:
    """The device, the threads where it is a CPU, torch's version, and how busy the machine is."""
    load = f"load {os.getloadavg()[0]:.1f}"
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, {load}"
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} cores"
    return f"{model}, {threads}, torch {torch.__version__}, {load}"
