"""The load: processes that run jobs against a server, over mutual TLS, by libcurl (pycurl).

`python -m benchmarks.driver <job.json>` writes `{"event": "ready"}` when it has connected; begins
at the line `go` on standard input, ends early at `stop`; and writes `{"event": "result", …}`. A
wrong status or a body with another digest ends it with a fault: a figure for wrong answers is
none.

Runs in the benchmarks' own environment: standard library and pycurl, nothing of the project.
"""

from __future__ import annotations

CIPHER = "TLS_AES_128_GCM_SHA256"
"""The one cipher suite that clients offer, so that servers which can't be told choose it, too."""
GROUP = "X25519"
"""The one group for the key exchange. Newer libraries would agree on a post-quantum hybrid where
the server knows it, and ours does, the peers don't: that is no comparison."""
