resource "juju_application" "ams" {
  name        = var.app_name
  model_uuid  = var.model_uuid
  units       = var.units
  constraints = var.constraints
  config      = var.config

  charm {
    name     = var.charm_name
    channel  = var.channel
    revision = var.revision
    base     = var.base
  }
}

locals {
  requires = {
    client         = "registry-client"
    publisher      = "registry-publisher"
    database       = "database"
    object_storage = "object-storage"
  }
}
