"""The wheel gets the frozen models of the repository; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("data/backbone", "grounding/detector")  # as `lpi.runtime.paths.shipped` names them


class WithModels(build_py):
    """Copies the models into the package that is built; a checkout has them where they are."""

    def run(self):
        super().run()
        if not self.editable_mode:
            for name in SHIPPED:
                shutil.copytree(name, Path(self.build_lib, "lpi", "shipped", name), dirs_exist_ok=True)


setup(cmdclass={"build_py": WithModels})
