"""What a registry (AAR) and a management service (AMS) must agree on.

Both services, both charms and any other charm that speaks the `aar` interface use this package,
so that a certificate is parsed and a fingerprint computed in one place only. It does no I/O and
knows nothing of HTTP or databases; of Juju only `aar_interface.relation` knows, which charms alone
import. `interface/v1/README.md` specifies the interface for whoever writes another charm.
"""

from aar_interface.certificates import Certificate, Fingerprint, InvalidCertificate
from aar_interface.roles import Role

__all__ = ["Certificate", "Fingerprint", "InvalidCertificate", "Role"]
