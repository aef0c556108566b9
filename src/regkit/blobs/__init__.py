"""Content-addressed storage: blobs by digest, and the uploads that become blobs.

`BlobStore` is the seam: files (`files`) or a bucket (`s3`), both held to one conformance suite.
Which blob belongs to whom, and when one may go, is the services' business.
"""

from regkit.blobs.files import FileBlobStore
from regkit.blobs.protocol import (
    UNBOUNDED,
    BlobInfo,
    BlobReader,
    BlobStore,
    DigestMismatch,
    Staged,
    StagedInfo,
    StorageDown,
    Tidied,
)

__all__ = [
    "UNBOUNDED",
    "BlobInfo",
    "BlobReader",
    "BlobStore",
    "DigestMismatch",
    "FileBlobStore",
    "Staged",
    "StagedInfo",
    "StorageDown",
    "Tidied",
]
