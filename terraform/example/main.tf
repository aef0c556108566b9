# One registry, one publisher, two clients: the same as bundle.yaml.

resource "juju_model" "registry" {
  name = var.model
}

module "aar" {
  source     = "../aar"
  model_uuid = juju_model.registry.uuid
  channel    = var.channel
  units      = var.registry_units
}

module "publisher" {
  source     = "../ams"
  app_name   = "publisher"
  model_uuid = juju_model.registry.uuid
  channel    = var.channel
}

module "client" {
  source   = "../ams"
  for_each = var.clients

  app_name   = each.value
  model_uuid = juju_model.registry.uuid
  channel    = var.channel
}

resource "juju_integration" "publisher" {
  model_uuid = juju_model.registry.uuid

  application {
    name     = module.aar.app_name
    endpoint = module.aar.provides.publisher
  }

  application {
    name     = module.publisher.app_name
    endpoint = module.publisher.requires.publisher
  }
}

resource "juju_integration" "client" {
  for_each   = module.client
  model_uuid = juju_model.registry.uuid

  application {
    name     = module.aar.app_name
    endpoint = module.aar.provides.client
  }

  application {
    name     = each.value.app_name
    endpoint = each.value.requires.client
  }
}

resource "juju_integration" "database" {
  count      = var.database == null ? 0 : 1
  model_uuid = juju_model.registry.uuid

  application {
    name     = module.aar.app_name
    endpoint = module.aar.requires.database
  }

  application {
    name     = var.database
    endpoint = "database"
  }
}

resource "juju_integration" "object_storage" {
  count      = var.object_storage == null ? 0 : 1
  model_uuid = juju_model.registry.uuid

  application {
    name     = module.aar.app_name
    endpoint = module.aar.requires.object_storage
  }

  application {
    name     = var.object_storage
    endpoint = "s3-credentials"
  }
}
