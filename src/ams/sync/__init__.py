"""Sync with one registry: pull what it publishes, or push what is published here.

`feed` parses the registry's changes, `view` keeps what they add up to, `plan` decides (pure),
`registry` is the one network door, `transfer` moves blobs, `runner` executes, `engine` says when.
What an application is, and how a version is stored, is the business of `ams.catalogue`.
"""
