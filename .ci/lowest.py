"""Print the lowest versions that setup.cfg claims to work with, as constraints for pip.

Without PyTorch: on PyPI its older releases are builds of several GB for CUDA.
"""

import configparser
import re
from pathlib import Path

setup = configparser.ConfigParser()
setup.read(Path(__file__).parent.parent / "setup.cfg")
for requirement in setup["options"]["install_requires"].split():
    name, version = re.fullmatch(r"([\w-]+)>=([\w.]+)(?:,.*)?", requirement).groups()
    if name != "torch":
        print(f"{name}=={version}")
