"""How downloads behave: environment variables, mirrors, and which address gets a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

from ..weights.manifest import CheckpointError, WeightsEntry

HUGGING_FACE = 'https://huggingface.co'
_TRUE = {'1', 'true', 'yes', 'on'}
_LOOPBACK = {'127.0.0.1', 'localhost', '::1'}


class DownloadError(CheckpointError):
    """A file could not be downloaded; the message says what to do."""


@dataclass(frozen=True)
class DownloadSettings:
    """Settings of downloads.

    Attributes:
        folder: Where the files go.
        offline: Never touch the network.
        mirror: Base address that is tried first, as ``mirror/file``.
        hf_endpoint: Base address that is tried before huggingface.co.
        hf_token: Sent to huggingface.co and to `hf_endpoint`, nowhere else.
        timeout_s: Seconds without a byte after which a connection counts as dead.
        retries: Further tries of one address that make no progress.
        backoff_s: Wait before the first of them; it doubles each time.
        force: Download again what is already here.
    """

    folder: Path
    offline: bool = False
    mirror: str | None = None
    hf_endpoint: str | None = None
    hf_token: str | None = field(default=None, repr=False)
    timeout_s: float = 30.0
    retries: int = 4
    backoff_s: float = 1.0
    force: bool = False

    def __post_init__(self) -> None:
        for name, base in (('BMP_MIRROR', self.mirror), ('HF_ENDPOINT', self.hf_endpoint)):
            if base and (
                urlsplit(base).scheme not in ('http', 'https') or not urlsplit(base).netloc
            ):
                raise DownloadError(f'{name} must be an http(s) address, got {base!r}')
        if self.timeout_s <= 0:
            raise DownloadError(f'the timeout must be more than 0 s, got {self.timeout_s:g}')
        if self.retries < 0:
            raise DownloadError(f'the number of retries must be 0 or more, got {self.retries}')

    def addresses(self, entry: WeightsEntry) -> list[str]:
        """Addresses of a file in the order in which they are tried."""
        found = [f'{self.mirror.rstrip("/")}/{quote(entry.file)}'] if self.mirror else []
        for url in entry.urls:
            if self.hf_endpoint and url.startswith(f'{HUGGING_FACE}/'):
                found.append(self.hf_endpoint.rstrip('/') + url[len(HUGGING_FACE) :])
            found.append(url)
        return list(dict.fromkeys(found))

    def hosts(self, entry: WeightsEntry) -> set[str]:
        """Hosts of `addresses`."""
        return {urlsplit(url).netloc for url in self.addresses(entry)}

    def token_for(self, url: str) -> str | None:
        """The token to send to an address: only to the hub, and only where nobody can read it."""
        host, scheme = urlsplit(url).netloc, urlsplit(url).scheme
        hubs = {urlsplit(base).netloc for base in (HUGGING_FACE, self.hf_endpoint) if base}
        private = scheme == 'https' or urlsplit(url).hostname in _LOOPBACK
        return self.hf_token if host in hubs and private else None


def settings_from(environment: Mapping[str, str], folder: Path) -> DownloadSettings:
    """Settings from BMP_OFFLINE, HF_HUB_OFFLINE, BMP_MIRROR, HF_ENDPOINT and HF_TOKEN.

    Raises:
        DownloadError: one of them cannot be used.
    """
    switches = (environment.get(name, '') for name in ('BMP_OFFLINE', 'HF_HUB_OFFLINE'))
    return DownloadSettings(
        folder=folder,
        offline=any(value.strip().lower() in _TRUE for value in switches),
        mirror=environment.get('BMP_MIRROR') or None,
        hf_endpoint=environment.get('HF_ENDPOINT') or None,
        hf_token=environment.get('HF_TOKEN', '').strip() or None,
    )
