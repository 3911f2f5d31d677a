#!/usr/bin/env python3
"""Draw docs/rooms.svg: the rooms of src/, and the path of a model file through them.

Which room may include which is read from cmake/Rooms.cmake, so the picture cannot lag behind the rule.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT, BOX_W, BOX_H = 920, 430, 118, 46

# Centre of each room's box, and what it says below the name.
PLACES = {
    "formats": (110, 110, "files to views"),
    "text": (110, 190, "tokenizers"),
    "models": (265, 110, "model families"),
    "graph": (265, 190, "ops, fusion, plan"),
    "reference": (265, 270, "CPU: what is right"),
    "session": (420, 110, "prompt, decode"),
    "schedule": (420, 190, "steps, barriers"),
    "verify": (420, 270, "device vs CPU"),
    "bench": (420, 336, "ops by the clock"),
    "kernels": (620, 150, "module, sizes, grid"),
    "device": (620, 230, "all of Vulkan"),
    "shaders": (790, 150, "GLSL catalogue"),
    "base": (265, 368, "dtype, Result, log"),
    "api": (420, 40, "the C ABI"),
}
TOWERS = [
    ("data tower: knows tensors, never Vulkan", 36, 72, 304, 234, "#eef4fb"),
    ("bridge", 348, 72, 144, 296, "#f4f1e6"),
    ("machine tower: knows GPUs, never layers", 546, 72, 318, 234, "#fbefee"),
]
FLOW = ["formats", "models", "graph", "schedule", "kernels", "device"]


def allowed():
    """Return {room: rooms it may include} from cmake/Rooms.cmake."""
    text = (ROOT / "cmake" / "Rooms.cmake").read_text()
    return {m[1]: [r for r in m[2].replace('""', "").split()] for m in re.finditer(r"set\(TESSERA_ROOM_(\w+) ([^)]*)\)", text)}


def edge(start, end):
    """Return the points where the line between two boxes leaves the first and meets the second."""
    (x0, y0, _), (x1, y1, _) = PLACES[start], PLACES[end]
    dx, dy = x1 - x0, y1 - y0
    scale = min(BOX_W / 2 / abs(dx) if dx else 9, BOX_H / 2 / abs(dy) if dy else 9)
    gap = 4 / max(abs(dx), abs(dy))
    return x0 + dx * scale, y0 + dy * scale, x1 - dx * (scale + gap), y1 - dy * (scale + gap)


def main():
    rooms = allowed()
    missing = set(rooms) - set(PLACES)
    if missing:
        sys.exit(f"no place in the picture for: {sorted(missing)}")
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="context-stroke"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
    ]
    for label, x, y, w, h, fill in TOWERS:
        out.append(f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="8" fill="{fill}"/>')
        out.append(f'<text x="{x + w / 2}" y="{y + h + 18}" font-size="13" fill="#555" text-anchor="middle">{label}</text>')
    for room, targets in rooms.items():
        for target in targets:
            if "base" in (room, target) or room == "api" or (room, target) in zip(FLOW[1:], FLOW):
                continue  # everyone includes base, api everything; the flow is drawn below
            x0, y0, x1, y1 = edge(room, target)
            out.append(f'<path d="M{x0:.0f} {y0:.0f} {x1:.0f} {y1:.0f}" stroke="#b9bec6" stroke-width="1.2" marker-end="url(#tip)"/>')
    for start, end in zip(FLOW, FLOW[1:]):
        x0, y0, x1, y1 = edge(start, end)
        out.append(f'<path d="M{x0:.0f} {y0:.0f} {x1:.0f} {y1:.0f}" stroke="#c4551d" stroke-width="3" marker-end="url(#tip)"/>')
    x0, y0, x1, y1 = edge("shaders", "kernels")
    out.append(f'<path d="M{x0:.0f} {y0:.0f} {x1:.0f} {y1:.0f}" stroke="#c4551d" stroke-width="3" stroke-dasharray="5 4" marker-end="url(#tip)"/>')
    for room, (x, y, note) in PLACES.items():
        dash = ' stroke-dasharray="5 4"' if room == "shaders" else ""
        out.append(f'<rect x="{x - BOX_W / 2}" y="{y - BOX_H / 2}" width="{BOX_W}" height="{BOX_H}" rx="6" fill="#fff" stroke="#444"{dash}/>')
        out.append(f'<text x="{x}" y="{y - 3}" font-size="15" font-weight="bold" text-anchor="middle">{room}</text>')
        out.append(f'<text x="{x}" y="{y + 14}" font-size="11" fill="#666" text-anchor="middle">{note}</text>')
    legend = [("#c4551d", "a model file's way to the GPU"), ("#b9bec6", "includes (everyone: base; api: all)")]
    for i, (colour, text) in enumerate(legend):
        y = 360 + 22 * i
        out.append(f'<path d="M560 {y} h36" stroke="{colour}" stroke-width="3"/><text x="606" y="{y + 4}" font-size="12" fill="#444">{text}</text>')
    out.append("</svg>")
    (ROOT / "docs" / "rooms.svg").write_text("\n".join(out) + "\n")


if __name__ == "__main__":
    main()
