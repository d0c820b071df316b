"""Encryption of payload files in the age format (https://age-encryption.org/v1), by pyrage, the binding of rage.

Every file is an age file of its own, so that `age -d -i KEYFILE FILE` reads it without portabl. Data is encrypted to
recipients (public keys, ``age1...`` or ``ssh-ed25519 ...``); only who holds an identity (secret key) can read it, and
whoever exports needs none.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from portabl.errors import ConfigError, Corrupt, PortablError, UsageError
from portabl.files import Files

FORMAT = "age-encryption.org/v1"
_CHUNK, _TAG, _NONCE = 64 * 1024, 16, 16  # of the payload of an age file
HEADER_MAX = 64 * 1024


def _pyrage() -> Any:
    try:
        import pyrage
    except ImportError:
        raise ConfigError(
            "encryption needs the package pyrage", hint="`pip install 'portabl[encryption]'`, then try again"
        ) from None
    return pyrage


def recipients_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Public keys as typed: each a key, or a file of keys, one a line, as `age -R` takes it. Raises UsageError."""
    found: list[str] = []
    for text in texts:
        if text.startswith(("age1", "ssh-")):
            found.append(text)
        else:
            found += _lines(text, "recipients")
    for one in found:
        _recipient(one)
    return tuple(dict.fromkeys(found))


def _lines(path: str, what: str) -> list[str]:
    folder, _, name = path.rpartition("/")
    text = Files.at(folder or ("/" if path.startswith("/") else ".")).read(name).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise UsageError(f"no {what} in {path}", hint="`age-keygen` makes a key pair")
    return found


def _recipient(text: str) -> Any:
    pyrage = _pyrage()
    try:
        kind = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
        return kind.Recipient.from_str(text)
    except pyrage.RecipientError:
        hint = "a recipient is a public key: `age1...`, `ssh-ed25519 ...`, or a file of them"
        raise UsageError("not a recipient of age", hint=hint) from None  # not named: it may be a secret key


class Lock:
    """Encrypts to the recipients of one package."""

    def __init__(self, recipients: Sequence[str]) -> None:
        self._pyrage = _pyrage()
        self._recipients = [_recipient(text) for text in recipients]

    def encrypt(self, data: bytes | memoryview) -> bytes:
        """A whole age file."""
        encrypted: bytes = self._pyrage.encrypt(bytes(data), self._recipients)
        return encrypted

    def into(self, read: Any, write: Any) -> None:
        """Encrypt from a readable into a writable, in bounded memory. The first write begins with the whole header."""
        self._pyrage.encrypt_io(read, write, self._recipients)


class Key:
    """Decrypts with the identities of a key file, as `age -i` takes it: lines of secret keys, or an SSH key."""

    def __init__(self, path: str) -> None:
        pyrage = self._pyrage = _pyrage()
        lines = _lines(path, "secret keys")
        try:
            if lines[0].startswith("-----BEGIN"):
                self._identities = [pyrage.ssh.Identity.from_buffer(("\n".join(lines) + "\n").encode())]
            else:
                self._identities = [pyrage.x25519.Identity.from_str(line) for line in lines]
        except pyrage.IdentityError:
            raise UsageError(f"{path} holds no secret key of age", hint="`age-keygen -o FILE` makes one") from None

    def decrypt(self, data: bytes | memoryview, key: bytes, storage: str) -> bytes:
        """What is in a whole age file. Raises Corrupt, UsageError when none of the identities fits."""
        try:
            decrypted: bytes = self._pyrage.decrypt(bytes(data), self._identities)
        except self._pyrage.DecryptError as error:
            raise self._error(error, key, storage) from None
        return decrypted

    def out_of(self, read: Any, write: Any, key: bytes, storage: str) -> None:
        """The same from a readable into a writable."""
        try:
            self._pyrage.decrypt_io(read, write, self._identities)
        except self._pyrage.DecryptError as error:
            raise self._error(error, key, storage) from None
        except OSError as error:
            if error.errno is not None or isinstance(error, PortablError):
                raise
            raise self._error(error, key, storage) from None  # what pyrage says of damage behind the first piece

    def _error(self, error: Exception, key: bytes, storage: str) -> Exception:
        if "No matching keys" in str(error):
            hint = "name the file that holds the secret key with `--identity`"
            return UsageError("none of these secret keys opens this package", storage=storage, hint=hint)
        return Corrupt(f"cannot be decrypted: {error}", key=key, storage=storage)


def sealed_size(header: int, size: int) -> int:
    """Bytes of an age file with so long a header (nonce included) around so many bytes."""
    return header + size + _TAG * max(1, -(-size // _CHUNK))


def plain_size(start: bytes, sealed: int) -> int:
    """Bytes that an age file of ``sealed`` bytes holds; ``start``: its first `HEADER_MAX` bytes or fewer.

    The header ends with the line of its MAC, a nonce follows (age-encryption.org/v1). Raises ValueError.
    """
    rest = sealed - _header_size(start)
    return rest - _TAG * max(1, -(-rest // (_CHUNK + _TAG)))


def _header_size(start: bytes) -> int:
    return start.index(b"\n", start.index(b"\n---") + 1) + 1 + _NONCE


class Sealing:
    """An age file being made from bytes that come by piece after piece. Memory: a piece and what it becomes."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._plain = b""
        self._over = False
        self._sealed = io.BytesIO()
        self._error: BaseException | None = None
        self._turn = threading.Condition()
        self._hungry = False
        self.header = 0
        self._thread = threading.Thread(target=self._run, name="portabl-seal", daemon=True)
        self._thread.start()

    def feed(self, data: bytes | memoryview) -> bytes:
        """Take the next bytes; returns what can be written so far."""
        return self._step(bytes(data), over=False)

    def close(self) -> bytes:
        """There is no more; returns the rest of the file."""
        return self._step(b"", over=True)

    def _step(self, data: bytes, *, over: bool) -> bytes:
        with self._turn:
            self._plain, self._over = self._plain + data, over
            self._hungry = False
            self._turn.notify_all()
            while not (self._hungry or not self._thread.is_alive() or self._error):
                self._turn.wait(0.1)
            if over:
                self._turn.release()
                try:
                    self._thread.join()
                finally:
                    self._turn.acquire()
            if self._error:
                raise self._error
            sealed, self._sealed = self._sealed.getvalue(), io.BytesIO()
            return sealed

    def _run(self) -> None:
        try:
            self._lock.into(self, self)
        except BaseException as error:
            self._error = error
        with self._turn:
            self._hungry = True
            self._turn.notify_all()

    def read(self, size: int = -1) -> bytes:
        """For the encrypting thread: the next bytes, b"" at the end."""
        with self._turn:
            while not self._plain and not self._over:
                self._hungry = True
                self._turn.notify_all()
                self._turn.wait()
            size = len(self._plain) if size < 0 else size
            data, self._plain = self._plain[:size], self._plain[size:]
            return data

    def write(self, data: bytes) -> int:
        """For the encrypting thread."""
        self.header = self.header or _header_size(data)  # little may follow in the same piece
        self._sealed.write(data)
        return len(data)

    def flush(self) -> None:
        """Nothing to do."""


class Reading:
    """A readable over pieces that a callable brings, b"" at the end."""

    def __init__(self, piece: Callable[[], bytes | memoryview]) -> None:
        self._piece = piece
        self._left = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        if not self._left:
            self._left = memoryview(self._piece())
        size = len(self._left) if size < 0 else size
        data, self._left = bytes(self._left[:size]), self._left[size:]
        return data


def described(recipients: Sequence[str]) -> dict[str, object]:
    """What package.json says of the encryption, empty for none."""
    return {"format": FORMAT, "recipients": list(recipients)} if recipients else {}
