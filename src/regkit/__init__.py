"""What both services stand on: trust, TLS, blobs, OCI manifests, database, REST envelope.

It holds no rule of the registry or of the management service, and imports neither.
"""
