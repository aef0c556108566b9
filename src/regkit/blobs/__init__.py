"""Content-addressed storage: blobs by digest, and the uploads that become blobs.

`BlobStore` is the seam: files here, an object store later, both held to one conformance suite.
Which blob belongs to whom, and when one may go, is the services' business.
"""

from regkit.blobs.files import FileBlobStore
from regkit.blobs.protocol import (
    BlobInfo,
    BlobReader,
    BlobStore,
    DigestMismatch,
    Staged,
    StagedInfo,
)

__all__ = [
    "BlobInfo",
    "BlobReader",
    "BlobStore",
    "DigestMismatch",
    "FileBlobStore",
    "Staged",
    "StagedInfo",
]
