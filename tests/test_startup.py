"""Stages import open_clip without timm and the compiler, and lose nothing that they use."""

import subprocess
import sys

from conftest import ROOT

START = """
import sys
from lpi import startup
{before}
startup.import_open_clip()
import open_clip, torch
print("loaded", *(name for name in ("timm", "torch._dynamo", "torch._dynamo.utils") if name in sys.modules))
model = open_clip.create_model("ViT-B-32", load_weights=False)
print("features", tuple(model.encode_text(open_clip.tokenize(["a"])).shape))
print("compiled", torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item())
"""


def output(before: str = "") -> list[str]:
    code = START.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.splitlines()


def test_open_clip_works_without_timm_and_compiler():
    assert output() == ["loaded", "features (1, 512)", "compiled 2.0"]


def test_the_import_is_made_as_usual_where_stand_ins_do_not_do():
    failing = (
        "real = startup.import_module\ndef once(name):\n startup.import_module = real\n raise AttributeError(name)\n"
    )
    lines = output(failing + "startup.import_module = once")
    assert lines == ["loaded timm torch._dynamo torch._dynamo.utils", "features (1, 512)", "compiled 2.0"]
