"""The colours of values, the same in the page and in the picture.

Five stops from the least value to the greatest, for a light and for a dark background. A gate
fades into the background where it is shut, a cell where it is 0.
"""

from __future__ import annotations

LIGHT = {
    "mel": ("#ffffff", "#c9ced8", "#8d96a6", "#4b5464", "#10141d"),
    "forget": ("#faf9fe", "#d8d0f1", "#ab9adf", "#7459bd", "#3f2583"),
    "input": ("#f5fbf7", "#c3e6ce", "#7cc698", "#349663", "#0f5d38"),
    "output": ("#fff9f0", "#fbdcae", "#f1b062", "#c97a22", "#854608"),
    "cell": ("#1a5ca3", "#74aede", "#f6f6f6", "#e6957a", "#ae2a1d"),
}
DARK = {
    "mel": ("#16181d", "#353b46", "#646d7e", "#9ba5b5", "#e4e7ec"),
    "forget": ("#1b1923", "#352760", "#5d44a3", "#8f75d8", "#c9b8ff"),
    "input": ("#151d19", "#174430", "#267350", "#4cab7e", "#96e3bb"),
    "output": ("#1f1a14", "#523212", "#98601f", "#cf9243", "#ffd08c"),
    "cell": ("#7db9f7", "#2d639c", "#1c1e23", "#9c422f", "#f79579"),
}
