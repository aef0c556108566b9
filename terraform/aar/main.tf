resource "juju_application" "aar" {
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

# Two offers: who may consume the second may write.
resource "juju_offer" "registry" {
  for_each = { for role, endpoint in local.provides : role => endpoint if var.offers }

  name             = "${juju_application.aar.name}-${each.value}"
  model_uuid       = var.model_uuid
  application_name = juju_application.aar.name
  endpoints        = [each.value]
}

locals {
  provides = {
    client    = "client"
    publisher = "publisher"
  }

  requires = {
    database       = "database"
    object_storage = "object-storage"
  }
}
