"""
Evaluate without clean data
===========================

The proximal distance needs no clean image; where references exist, it can be compared with the true one.
"""

# %%
# Samples of teacher and student of the examples before.
import json
import shlex
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image


def mrigen(line: str) -> str:
    """The output of a command of mrigen."""
    command = [sys.executable, "-m", "mrigen", *shlex.split(line)]
    return subprocess.run(command, cwd="runs", check=True, capture_output=True, text=True).stdout


for role in ("teacher", "student"):
    mrigen(f"sample {role} --seeds 0-499 --out {role}.h5 --device cpu")

# %%
# Corrupted like the data, with 95 % intervals, and then against held-out references.
print(mrigen("evaluate teacher.h5 student.h5 --proximal --data digits --features pixels --out proximal.json"))
print(mrigen("evaluate teacher.h5 student.h5 --reference digits-reference --features pixels --out true.json"))

# %%
# Both put the two models in the same order.
numbers = {
    name: json.loads(Path("runs", f"{name}.json").read_text())["results"] for name in ("proximal", "true")
}
for name, key in (("proximal", "proximal"), ("true", "fd")):
    print(name, [f"{row[key]:.3f}" for row in numbers[name]])

# %%
# Do generated images copy training data? The nearest measurement of each, through its own mask.
print(mrigen("audit student.h5 --data digits --out audit"))
plt.figure(figsize=(8, 5), layout="constrained")
plt.imshow(Image.open("runs/audit/histogram.png"))
plt.axis("off")
plt.show()
