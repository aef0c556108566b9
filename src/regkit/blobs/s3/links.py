"""URLs that let a client fetch one blob for a while, signed by the rules of S3 or CloudFront."""

from __future__ import annotations

from datetime import datetime, timezone
from functools import cached_property
from typing import Any
from urllib.parse import quote

from botocore.signers import CloudFrontSigner
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from regkit.blobs.s3.bucket import Bucket
from regkit.blobs.s3.layout import Pointer
from regkit.errors import Invalid
from regkit.storage import S3Storage


class Links:
    """Makes the URLs. `wanted`: whether clients shall have them."""

    def __init__(self, settings: S3Storage, bucket: Bucket) -> None:
        self.wanted = settings.redirect
        self._bucket = bucket
        self._settings = settings
        front = settings.cloudfront
        self._valid = (front.duration if front else None) or settings.redirect_for

    def check(self) -> None:
        """Look whether CloudFront's key can be used. Raises Invalid."""
        if self._settings.cloudfront is not None:
            _ = self._signer

    def to(self, pointer: Pointer) -> str:
        """Return a URL for the content, valid from now on."""
        front = self._settings.cloudfront
        if front is None:
            return self._bucket.link(pointer.data, int(self._valid.total_seconds()))
        url = f"{front.base_url}/{quote(self._settings.prefix + pointer.data)}"
        return self._signer.generate_presigned_url(
            url, date_less_than=datetime.now(timezone.utc) + self._valid
        )

    @cached_property
    def _signer(self) -> Any:
        front = self._settings.cloudfront
        if front is None:
            raise RuntimeError("only asked for with CloudFront")
        wrong = f"storage.s3.cloudfront.private-key: {front.private_key} "
        try:
            key = serialization.load_pem_private_key(front.private_key.read_bytes(), None)
        except OSError as error:
            raise Invalid(f"{wrong}can't be read ({error.strerror})") from None
        except (ValueError, TypeError):
            raise Invalid(f"{wrong}is no private key in PEM without a passphrase") from None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise Invalid(f"{wrong}is no RSA key, which CloudFront wants")
        rsa_key = key

        def sign(message: bytes) -> bytes:
            # CloudFront's signatures are RSA over SHA-1, whatever one thinks of it.
            return rsa_key.sign(message, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303

        return CloudFrontSigner(front.keypair_id, sign)
