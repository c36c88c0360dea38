r"""Named arrays and JSON in one file that proves it is whole.

The bytes are a safetensors file, which any safetensors reader opens:

    0 .. 7      n, the length of the header, little-endian
    8 .. 7 + n  the header: one JSON object in ASCII, then spaces until n is a multiple of 8
    8 + n ..    the arrays, one after the other without gaps, to the end of the file

The header's first entry is `"__metadata__":{"refflow":"..."}`. One entry for each array follows, in the order in which
they lie: `"name":{"dtype":d,"shape":[...],"data_offsets":[begin,end]}`, the offsets counted in bytes from the end of
the header. d is F64, F32 or F16 (IEEE 754); arrays are row-major and little-endian, wider dtypes before narrower ones.

The string under `refflow` is again JSON, with keys sorted, no spaces, in ASCII, no NaN and no infinity:

    digest   64 lower-case hexadecimal digits: SHA-256 of the whole file with these 64 digits replaced by "0"
    format   1
    kind     "model" or "checkpoint"
    payload  what the kind says

so every file of every format has the digest in bytes 50 .. 113. To check one in any language, hash bytes 0 .. 49, then
64 characters "0", then bytes 114 to the end. The digest finds accidents; it is no signature.

Files are written under a temporary name beside the old one, flushed to the disk and renamed: at every instant the old
file or the new one is there, never half of either.
"""

import contextlib
import errno
import hashlib
import json
import math
import os
import stat
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from refflow.errors import DTypeError, FileError

FORMAT = 1
DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16"}
SIZES = {"F64": 8, "F32": 4, "F16": 2}
PREFIX = rb'{"__metadata__":{"refflow":"{\"digest\":\"'
DIGEST = slice(8 + len(PREFIX), 8 + len(PREFIX) + 64)
ZEROS = b"0" * 64
_ADVICE = "give another path, or fetch the file again"


def pack(tensors: dict[str, np.ndarray], payload: dict[str, Any], kind: str) -> bytes:
    """The file of the arrays and the payload; the same bytes for the same input, in every process."""
    names = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)
    # written row by row whatever the order in memory: safetensors' own writer transposes Fortran-ordered arrays
    blocks = [_little_endian(name, tensors[name]).tobytes(order="C") for name in names]
    described = {"digest": ZEROS.decode(), "format": FORMAT, "kind": kind, "payload": payload}
    try:
        text = json.dumps(described, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise FileError(f"expected finite JSON values to write beside the arrays: {error}") from error
    header: dict[str, Any] = {"__metadata__": {"refflow": text}}
    position = 0
    for name, block in zip(names, blocks, strict=True):
        end = position + len(block)
        dtype, shape = DTYPES[tensors[name].dtype.name], list(tensors[name].shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, end]}
        position = end
    head = json.dumps(header, separators=(",", ":")).encode("ascii")
    head += b" " * (-len(head) % 8)
    data = bytearray(b"".join([len(head).to_bytes(8, "little"), head, *blocks]))
    data[DIGEST] = digest(data)
    return bytes(data)


def digest(data: bytes | bytearray) -> bytes:
    """The digest that belongs into a file: SHA-256 of its bytes, the place of the digest read as zeros."""
    view = memoryview(data)
    found = hashlib.sha256(view[: DIGEST.start])
    found.update(ZEROS)
    found.update(view[DIGEST.stop :])
    return found.hexdigest().encode()


def unpack(data: bytes, kind: str, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays (NumPy's, owned and writable) and the payload of a file of that kind.

    Nothing in the file is believed before its digest fits. `name` is what errors call the file.
    """
    if not is_ours(data):
        raise FileError(f"expected {name} to be a refflow {kind} file, got {_what(data)}: {_ADVICE}")
    if data[DIGEST] != digest(data):
        raise FileError(
            f"expected {name} to be the refflow file that was written, got one that was cut or changed since "
            f"(its digest does not fit): {_ADVICE}"
        )
    try:
        header = _header(data)
        described = _strict_json(header.pop("__metadata__")["refflow"])
        version, found, payload = described["format"], described["kind"], described["payload"]
    except Exception as error:  # whatever a hostile header provokes
        raise FileError(f"expected a refflow header in {name}, got something else: {_reason(error)}") from error
    if type(version) is not int or version != FORMAT:
        age = "written by a newer refflow" if type(version) is int and version > FORMAT else "unknown"
        advice = "upgrade refflow to read it" if age != "unknown" else _ADVICE
        raise FileError(f"expected {name} in format {FORMAT}, got one {age} (format {version!r}): {advice}")
    if found != kind or not isinstance(payload, dict):
        raise FileError(f"expected {name} to be a refflow {kind} file, got a refflow {found!r} file: give another path")
    try:
        return _arrays(header, data), payload
    except Exception as error:
        raise FileError(f"expected whole arrays in {name}, got a header that lies: {_reason(error)}") from error


def is_ours(data: bytes) -> bool:
    """Whether bytes begin as every refflow file does, up to the end of the digest."""
    return len(data) >= DIGEST.stop and data[8 : DIGEST.start] == PREFIX


def _what(data: bytes) -> str:
    if not data:
        return "an empty file"
    if data[8 : DIGEST.start] == PREFIX[: max(len(data) - 8, 0)]:
        return f"a file cut after {len(data)} bytes"
    return "a file of another kind or with a damaged header"


def _header(data: bytes) -> dict[str, Any]:
    start = 8 + int.from_bytes(data[:8], "little")
    if start > len(data):
        raise ValueError(f"a header of {start - 8} bytes in a file of {len(data)}")
    return _strict_json(data[8:start].decode("ascii"))


def _arrays(names: Iterable[str], data: bytes) -> dict[str, np.ndarray]:
    """The arrays as safetensors reads them, each where the one before ended, the last to the end of the file."""
    from safetensors import deserialize  # 20 ms, and only files need it

    views = dict(deserialize(data))  # type: ignore[no-untyped-call]
    found = {}
    for name in names:
        if (dtype := views[name]["dtype"]) not in SIZES:
            raise ValueError(f"{name} is of {dtype}")
        little = np.frombuffer(views[name]["data"], dtype=f"<f{SIZES[dtype]}")
        found[name] = little.astype(little.dtype.newbyteorder("=")).reshape(views[name]["shape"])
    return found


def _little_endian(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.name not in DTYPES:
        raise DTypeError(f"expected {name} of dtype {', '.join(DTYPES)}, got {array.dtype}: convert it first")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _strict_json(text: str) -> dict[str, Any]:
    """JSON whose objects have no key twice and whose numbers are finite: what two readers cannot read differently."""
    found = json.loads(text, object_pairs_hook=_object, parse_constant=_finite, parse_float=_finite)
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__} for an object")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a name twice among {[name for name, _ in pairs][:20]}")
    return found


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"the number {text}")
    return value


def _reason(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__


def read_bytes(path: str | PathLike[str]) -> bytes:
    """The bytes of a refflow file, or FileError with the reason. Of another file only the first few: it may be huge."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(DIGEST.stop)
            return head + stream.read() if is_ours(head) else head
    except (OSError, ValueError, MemoryError) as error:
        raise FileError(f"cannot read {path}: {_system_reason(error)}: give the path of a file of refflow") from error


def write_atomic(path: str | PathLike[str], data: bytes) -> Path:
    """Replace the file by one with these bytes and its permissions, or leave it as it was and raise FileError.

    A link is followed. Folders, devices and write-protected files are refused.
    """
    try:
        target = Path(os.path.realpath(path))
        _replace(target, data, _permissions(target))
    except (OSError, ValueError) as error:
        reason = _system_reason(error)
        raise FileError(
            f"cannot write {path}: {reason}; nothing was changed: mend this or give another path"
        ) from error
    _sync_folder(target.parent)
    return Path(path)


def _replace(target: Path, data: bytes, mode: int | None) -> None:
    temporary = target.with_name(f".refflow-{os.urandom(8).hex()}.part")
    try:
        _write(temporary, data, mode)
        os.replace(temporary, target)
    finally:  # also after Ctrl-C; once renamed, there is nothing to remove
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _write(path: Path, data: bytes, mode: int | None) -> None:
    with open(path, "xb") as stream:
        if mode is not None:
            os.chmod(path, mode)
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _permissions(target: Path) -> int | None:
    """Those of the file that is there, None if none is."""
    try:
        found = os.stat(target)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "a folder or a device, not a file, is there")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "the file that is there is write-protected")
    return stat.S_IMODE(found.st_mode)


def _system_reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or _reason(error)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets folders be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
