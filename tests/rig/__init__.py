"""An emulated Juju model that runs really packed charms on really booted machines.

What is emulated: the model, the order of hooks, the hook tools and the ``juju`` client. What is
real: the charm, its virtual environment, systemd, the file system, the network of each machine.
"""
