"""Who may come in: the trust store, the same for the registry and the management service.

Trust is a state, not a file: a row per certificate, looked up at every request, so that a change
acts at once in every process. What a role may do is the services' business.

Rules (FACTS and the register-clients page):
- the identity is the certificate's fingerprint; a row also keeps the public key's hash;
- a revoked row stays for ever and refuses its key too, in whatever certificate it comes back;
- every row has an origin, so that a relation removes only what it added.
"""

from __future__ import annotations

from regkit.trust.applying import Applied, Refusal, Wanted, check_owner
from regkit.trust.rows import MANUAL, Change, Entry, Observer, trust_table
from regkit.trust.store import LAST_USED_STEP, MIN_PREFIX, Refused, TrustStore

__all__ = [
    "LAST_USED_STEP",
    "MANUAL",
    "MIN_PREFIX",
    "Applied",
    "Change",
    "Entry",
    "Observer",
    "Refusal",
    "Refused",
    "TrustStore",
    "Wanted",
    "check_owner",
    "trust_table",
]
