"""What a user can mend is told in one line."""

import runpy
import sys

from lpi.data.download import DownloadError
from lpi.data.errors import DataError
from lpi.models.backbone import BackboneError
from lpi.parameters import ParameterError
from lpi.runtime.devices import DeviceError
from lpi.runtime.errors import UserError, plain_errors

import pytest
from conftest import ROOT


@pytest.mark.parametrize(
    "kind", [DataError, DownloadError, BackboneError, ParameterError, DeviceError, FloatingPointError, OSError]
)
def test_what_a_user_can_mend_ends_a_stage_in_one_line(kind):
    with pytest.raises(SystemExit, match="^error: do this$"), plain_errors():
        raise kind("do this")


def test_other_errors_keep_their_traceback():
    assert not issubclass(KeyError, UserError)
    with pytest.raises(KeyError), plain_errors():
        raise KeyError("x")


@pytest.mark.parametrize("path", sorted((ROOT / "stages").glob("*.py")), ids=lambda path: path.stem)
def test_every_stage_tells_errors_plainly(path, tmp_path, monkeypatch):
    """In an empty folder, with a device that does not exist."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LPI_DEVICE", "abacus")
    monkeypatch.setattr(sys, "argv", [str(path), "t00", "init"] if path.stem == "train" else [str(path)])
    with pytest.raises(SystemExit, match=r"^error: (params\.yaml|.*data/pretrain\.yaml|.*grounding/detector\.yaml)"):
        runpy.run_path(str(path), run_name="__main__")
