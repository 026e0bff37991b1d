"""What tells whether vectors are those of a model."""

from lpi.index.scan import digest
from lpi.inference.encoder import Encoder


def digests(encoder: Encoder) -> list[str]:
    """Of the tasks, see `Learned.task_digests`."""
    return encoder.learned.task_digests() if encoder.learned else []


def fingerprint(encoder: Encoder) -> str:
    """Of the frozen model: some numbers of every tensor."""
    content = bytearray()
    for name, value in encoder.system.encoder.state_dict().items():
        flat = value.detach().flatten()
        content += name.encode() + flat[:: max(1, len(flat) // 16)][:16].float().cpu().numpy().tobytes()
    return digest(bytes(content)).hex()
