"""What providers of PostgreSQL and S3 say to a charm, as they say it."""

from __future__ import annotations

import json

from support.databags import certificate

AUTHORITY, SECOND = certificate("authority").pem, certificate("second").pem

POSTGRESQL = {
    "data": '{"database": "aar", "requested-secrets": "[\\"username\\", \\"password\\"]"}',
    "database": "aar",
    "endpoints": "10.20.30.41:5432",
    "read-only-endpoints": "10.20.30.42:5432,10.20.30.43:5432",
    "secret-tls": "secret://0fb1f79d-1b7d-4b0b-8a4c-7a1c1f3f9d10/d0erdgfmp25c762i8np0",
    "secret-user": "secret://0fb1f79d-1b7d-4b0b-8a4c-7a1c1f3f9d10/d0erdgfmp25c762i8nq0",
    "subordinated": "false",
    "version": "14.13",
    # The content of the secrets.
    "username": "relation_id_7",
    "password": "s3cret/@:%",
    "tls": "False",
    "tls-ca": "",
}
"""Charmed PostgreSQL 14, whose credentials are in Juju secrets."""

OLDER_POSTGRESQL = {
    "database": "aar",
    "endpoints": "pg-0.internal:5432,[2001:db8::7]:5433",
    "username": "relation-7",
    "password": "plain",
    "tls": "True",
    "version": "14.9",
}
"""One that has no secrets, by a proxy of several units."""

S3_INTEGRATOR = {
    "access-key": "AKIAEXAMPLE",
    "secret-key": "s3cret+/=",
    "bucket": "fleet",
    "data": '{"bucket": "aar"}',
    "endpoint": "https://s3.example.com/",
    "path": "/registry/",
    "region": "eu-north-1",
    "s3-api-version": "",
    "s3-uri-style": "host",
    "storage-class": "",
    "tls-ca-chain": json.dumps([AUTHORITY, SECOND]),
}
