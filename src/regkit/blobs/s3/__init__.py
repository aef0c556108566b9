"""Blobs in an S3 bucket: `BlobStore` over AWS, Ceph's radosgw, MinIO and their like.

`layout` names the objects, `bucket` is the one network door, `sessions` says who may write a
staged upload and what it has, `staged` turns its bytes into parts, `store` puts them together.
The design is in docs/adr/0008-blobs-in-a-bucket.md. boto3 is imported from here down only.
"""

from regkit.blobs.s3.store import S3BlobStore

__all__ = ["S3BlobStore"]
